/* Each node's log, side by side: the same column is the same index.

            1,201                 1,205                 1,209
       1    P1    P1    P1    D2  P2    P2    P3    P3   ┊P3         filled: committed      bar below: applied
       2    P1    P1    P1    D2  P2    P2    P3    P3               dashed: in the log, not committed
       3    ░░    ░░    P1    D2  P2    P2                           hatched: only in the snapshot

   A cell's colour is its entry's term, its letter what it holds; the text of a cell says it all. The cells are those of the
   last 32 entries that a frame has (`raft.log`), as many as there is room for. An entry of another term than the leader's
   under the same index is marked: Raft will overwrite it.

   Cost: a frame in which the log moved changes classes and letters of at most 32 cells for each node; none is made anew. */

import {count, h, keyed, legend, picture, plural, put, say} from "./svg.js";

const CELL = 30;
const CELLS_MAX = 32;
const TERMS = 6; // colours
const LETTERS = {put: "P", delete: "D", batch: "B", session: "S", change: "C", empty: "–", mark: "M", unreadable: "!"};
const WORDS = {
  put: "a put", delete: "a delete", batch: "a batch", session: "a session's beginning or its write", change: "a change of the members",
  empty: "the empty entry that a new leader begins its term with", mark: "a mark that compares the nodes", unreadable: "bytes that no node of this version proposes",
};

export const view = {
  id: "log",
  title: "Log",
  mount(root, page) {
    const frame = picture({
      id: "log-cells", title: "The log of each node", chapter: [16, "Raft: replication and commit"],
      what: "Every write is an entry of the log, with an index and the term of the leader that took it; a node applies the entries in "
        + "order, once they are committed. Two logs that agree on the term of an index agree on all before it.",
      bytes: () => showBytes(page),
    });
    const head = h("tr", {}, h("th", {scope: "col"}, "index"));
    const rows = h("tbody");
    const told = h("p", {class: "told", "data-testid": "log-entry", "aria-live": "polite"}, "Choose an entry to read what it is.");
    const terms = h("ul", {class: "legend"});
    frame.body.append(h("div", {class: "wide"}, h("table", {class: "log", role: "grid", "aria-label": "The last entries of each node's log", onkeydown: onKey}, h("thead", {}, head), rows)), told, terms, marks());
    const where = whereTable();
    root.append(frame.root, where.root);
    const cells = new Cells(page, head, rows, told);
    return {
      draw() {
        const nodes = page.world.nodes.filter((node) => node.frame?.raft);
        say(frame.note, summary(nodes, page.world.leader));
        cells.draw(nodes, Math.max(6, Math.min(CELLS_MAX, Math.floor((frame.body.clientWidth - 118) / CELL))));
        drawTerms(terms, cells.terms);
        where.draw(nodes, page.world.leader);
      },
    };
  },
};

class Cells {
  constructor(page, head, rows, told) {
    Object.assign(this, {page, head, rows, told, terms: [], chosen: null});
  }

  draw(nodes, columns) {
    const high = Math.max(0, ...nodes.map((node) => node.frame.raft.last));
    const low = Math.max(1, high - columns + 1);
    const indexes = Array.from({length: columns}, (_, at) => low + at);
    this.drawHead(indexes);
    const right = new Map((this.page.world.leader?.frame.raft.log ?? []).map(([index, term]) => [index, term]));
    const terms = new Set();
    keyed(this.rows, nodes, (node) => node.url, () => h("tr", {}, h("th", {scope: "row"}, h("b"), h("span", {class: "lag"}))), (row, node) => {
      const {raft} = node.frame;
      const entries = new Map(raft.log.map((entry) => [entry[0], entry]));
      this.fit(row, columns, "td");
      put(row, {class: node.live ? "" : "old"});
      say(row.firstChild.firstChild, node.name);
      say(row.firstChild.lastChild, lag(node, high));
      indexes.forEach((index, at) => {
        const cell = cellOf(raft, index, entries.get(index), right.get(index));
        if (cell.term !== null) terms.add(cell.term);
        const element = row.children[at + 1];
        element.told = cell.told && `${node.name}, ${cell.told}`;
        say(element, cell.letter);
        put(element, {class: cell.kind, title: cell.told, "aria-label": cell.told || "nothing yet"});
      });
    });
    this.terms = [...terms].sort((a, b) => a - b);
  }

  drawHead(indexes) {
    this.fit(this.head, indexes.length, "th");
    indexes.forEach((index, at) => say(this.head.children[at + 1].firstChild, index % 5 === 0 ? count(index) : ""));
  }

  /** As many cells as columns; they are made when the room changes, and only then. */
  fit(row, columns, tag) {
    while (row.children.length > columns + 1) row.lastChild.remove();
    while (row.children.length < columns + 1) {
      const cell = tag === "th" ? h("th", {}, h("span")) : h("td", {role: "gridcell", tabindex: -1, onfocus: () => this.choose(cell), onclick: () => cell.focus()});
      row.append(cell);
    }
    if (tag === "td" && !this.chosen?.isConnected) {
      this.chosen = row.lastChild;
      put(this.chosen, {tabindex: 0});
    }
  }

  choose(cell) {
    put(this.chosen ?? cell, {tabindex: -1});
    this.chosen = cell;
    put(cell, {tabindex: 0});
    say(this.told, cell.told ? `${cell.told[0].toUpperCase()}${cell.told.slice(1)}.` : "There is no entry here yet.");
  }
}

/** What a cell shows: {kind: classes, letter, term, told}. */
function cellOf(raft, index, entry, rightTerm) {
  if (index > raft.last) return {kind: "none", letter: "", term: null, told: ""};
  if (index < raft.first) return {kind: "cut", letter: "", term: null, told: `entry ${count(index)}: cut off, it is in the snapshot`};
  if (!entry) return {kind: "there", letter: "·", term: null, told: `entry ${count(index)}: in the log, before its last 32`};
  const [, term, what, size] = entry;
  const committed = index <= raft.commit;
  const applied = index <= raft.applied;
  const differs = rightTerm !== undefined && rightTerm !== term;
  const state = applied ? "committed and applied" : committed ? "committed, not applied yet" : "not committed yet";
  return {
    kind: `term-${(term - 1) % TERMS}${committed ? "" : " open"}${applied ? " applied" : ""}${differs ? " differs" : ""}`,
    letter: LETTERS[what] ?? "?", term,
    told: `entry ${count(index)} of term ${count(term)}: ${WORDS[what] ?? what}, ${plural(size, "byte")}, ${state}${differs ? "; the leader has another one here, so it will be overwritten" : ""}`,
  };
}

/** Arrows go from cell to cell. */
function onKey(event) {
  const cell = document.activeElement.closest("td");
  const [across, down] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
  if (!cell || (!across && !down)) return;
  event.preventDefault();
  const row = cell.parentElement;
  const to = [...row.parentElement.children].indexOf(row) + down;
  row.parentElement.children[to]?.children[Math.max(1, cell.cellIndex + across)]?.focus();
}

function lag(node, high) {
  if (!node.live) return node.state === "silent" ? "silent" : "no connection";
  const behind = high - node.frame.raft.last;
  return behind > 0 ? `${count(behind)} behind` : node.frame.raft.role;
}

function summary(nodes, leader) {
  if (!nodes.length) return "No node has told its log yet.";
  const high = Math.max(...nodes.map((node) => node.frame.raft.last));
  const commit = Math.max(...nodes.map((node) => node.frame.raft.commit));
  const behind = nodes.filter((node) => node.frame.raft.last < high);
  const who = behind.length ? `${behind.map((node) => node.name).join(", ")} ${behind.length === 1 ? "is" : "are"} behind` : "all nodes have it";
  return `The last entry is ${count(high)}, committed is up to ${count(commit)}; ${who}${leader ? "" : "; nobody leads"}.`;
}

function drawTerms(list, terms) {
  keyed(list, terms, (term) => term, (term) => h("li", {}, h("span", {class: `swatch term-${(term - 1) % TERMS}`}), `term ${count(term)}`));
}

function marks() {
  const list = legend([["term-0 applied", "committed and applied"], ["term-0", "committed"], ["term-0 open", "not committed yet"], ["cut", "cut off, in the snapshot"]]);
  list.append(h("li", {}, "P put · D delete · B batch · S session · C change of members · – a new leader's first entry · M mark"));
  return list;
}

function showBytes(page) {
  const node = page.node();
  const segment = node?.frame?.wal?.segments?.at(-1);
  if (segment) page.bytes(node, `wal/${segment[0]}`);
}

// ---- the same in numbers --------------------------------------------------------------------------------------------

const COLUMNS = ["node", "snapshot up to", "first in the log", "last", "committed", "applied", "entries behind"];

function whereTable() {
  const box = picture({
    id: "log-where", title: "How far each node is", chapter: [17, "Raft on disk"],
    what: "What is applied is in the engine; so the log's beginning can be cut off at a snapshot, and a follower that needs what "
      + "was cut off is sent the snapshot instead. A node that is behind catches up from the leader's log.",
  });
  const rows = h("tbody");
  box.body.classList.add("wide");
  box.body.append(h("table", {class: "members"}, h("thead", {}, h("tr", {}, ...COLUMNS.map((name, n) => h("th", {scope: "col", class: n ? "number" : ""}, name)))), rows));
  const draw = (nodes, leader) => {
    const high = Math.max(0, ...nodes.map((node) => node.frame.raft.last));
    keyed(rows, nodes, (node) => node.url, () => h("tr", {}, h("th", {scope: "row"}), ...COLUMNS.slice(1).map(() => h("td", {class: "number"}))), (row, node) => {
      const {raft} = node.frame;
      const told = [node === leader ? `${node.name}, leads` : node.name, raft.snapshot_index ? count(raft.snapshot_index) : "none", ...[raft.first, raft.last, raft.commit, raft.applied, high - raft.last].map(count)];
      told.forEach((value, n) => say(row.children[n], value));
    });
  };
  return {root: box.root, draw};
}
