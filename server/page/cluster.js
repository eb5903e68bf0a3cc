/* The cluster: nodes on a ring, who leads, and every message that they send, on its way.

            ( 1 )  leader, term 3            a circle    a node; the number is its id, the colour and the word its role
           ⁄     \                           a pip       whom it voted for in its term
        ( 2 )───( 3 )                        a shape on a line    messages of one kind that a node sent in 100 ms
         ▪▪▪▫                                ▪ the log's last entries, colours are terms; ▫ not committed

   Shapes come from `messages.sent` of the sender's frame, and from nowhere else: a node that isn't heard sends nothing
   here. How long they are on their way is drawn slowly, so that it can be seen: FLIGHT_MS, not what it took. Several of a
   kind to the same node are one shape, larger by their number; at most FLIGHTS_MAX are there at a time. They are elements
   of a layer above the drawing, whose way is an animation that the browser's compositor runs: the page's own thread has
   nothing to do while they move, and the drawing isn't painted again.

   Under a lab (page.lab), circles and lines are buttons; what was cut or paused is in page.faults. A table below says the
   same in numbers, for eyes and for screen readers. */

import {membersTable, newsList} from "./members.js";
import {KINDS, shape, shapeOf} from "./messages.js";
import {count, drawing, h, keyed, legend, ms, picture, plural, put, s, say, still} from "./svg.js";

const FLIGHT_MS = 480;
const INTERVAL_MS = 90;
const FLIGHTS_MAX = 64;
const NODE_R = 31;
const WORDS = 60; // how high the words of a node are: a click between them and the circle is one on the node
const REACH = 50;
const LANE = 5; // messages keep to one side of the line, those of the other direction to the other
const ABOVE = 80; // room for the words of the uppermost node, which stand above it: below are its links
const TAIL = 8; // entries
const ROOM = 60; // for each node: with less, the table alone has its numbers

export const view = {
  id: "cluster",
  title: "Cluster",
  mount(root, page) {
    return new Cluster(root, page);
  },
};

class Cluster {
  constructor(root, page) {
    this.page = page;
    this.flying = 0;
    this.idle = [];
    this.frame = picture({
      id: "cluster-ring", title: "The cluster", chapter: [15, "Raft: elections"],
      what: "Each circle is a server with a copy of the data; the leader puts writes in one order and sends them to the others, "
        + "and a write is committed once most of them have it. The shapes on the lines are the messages that the nodes sent.",
      bytes: () => showLog(page),
    });
    this.facts = h("dl", {class: "facts", "data-testid": "cluster-facts"});
    this.drawing = drawing(600, 380);
    put(this.drawing.root, {role: "group", class: "drawing ring", "data-testid": "ring"});
    this.links = s("g");
    this.dots = h("div", {class: "flights", "aria-hidden": "true", "data-testid": "messages"});
    this.circles = s("g");
    this.drawing.root.append(this.links, this.circles);
    this.rates = h("p", {class: "note", "data-testid": "message-rates"});
    this.frame.body.append(this.facts, h("div", {class: "ring-box"}, this.drawing.root, this.dots), this.rates, shapesLegend());
    this.members = membersTable();
    this.news = newsList();
    root.append(this.frame.root, this.members.root, this.news.root);
    this.listener = (node, frame) => frame && this.send(node, frame);
    page.on("frame", this.listener);
  }

  close() {
    this.page.off("frame", this.listener);
  }

  /** Where everything is, from the room there is. O(nodes²). */
  place() {
    const width = Math.max(240, this.frame.body.clientWidth);
    const nodes = ring(this.page.world);
    const crowded = width / nodes.length < ROOM;
    const above = crowded ? 40 : ABOVE;
    const across = Math.min(width / 2 - (crowded ? 36 : 62), 40 + 70 * Math.max(nodes.length, 3));
    const down = 84 + (crowded ? 20 : 14) * nodes.length;
    const key = `${width} ${nodes.map((node) => node.key).join()}`;
    if (key !== this.placed) {
      this.placed = key;
      this.at = new Map(nodes.map((node, n) => {
        const angle = (2 * Math.PI * n) / nodes.length - Math.PI / 2;
        return [node.key, [width / 2 + across * Math.cos(angle), NODE_R + above + down + down * Math.sin(angle)]];
      }));
      const lowest = Math.max(...[...this.at.values()].map(([, y]) => y));
      this.middle = NODE_R + above + down;
      this.crowded = crowded;
      put(this.drawing.root, {"data-crowded": crowded});
      this.drawing.size(width, Math.round(lowest + NODE_R + (crowded ? 30 : 78)));
    }
    return nodes;
  }

  draw() {
    const nodes = this.place();
    const {world} = this.page;
    const leader = world.leader;
    this.high = Math.max(0, ...world.nodes.map((node) => node.frame?.raft?.last ?? 0));
    say(this.frame.note, summary(world));
    this.drawing.tell(summary(world));
    drawFacts(this.facts, world, leader);
    this.drawLinks(nodes);
    keyed(this.circles, nodes, (node) => node.key, (node) => this.makeNode(node), (group, node) => this.drawNode(group, node));
    this.members.draw(nodes, leader);
    this.news.draw(world);
    say(this.rates, still() ? stillRates(world) : "");
  }

  // ---- nodes and links ----

  makeNode(node) {
    const choose = () => {
      if (node.id === null) return;
      this.page.choose(node.id);
      this.page.emit("node", node.id);
    };
    return s("g", {
      class: "node", tabindex: 0, role: "button", "data-testid": `ring-node-${node.key}`, onclick: choose,
      onkeydown: (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), choose()),
    }, s("circle", {class: "halo", r: NODE_R + 6}), s("circle", {class: "body", r: NODE_R}),
    s("text", {class: "id", dy: 9}), s("text", {class: "role"}), s("text", {class: "muted"}), s("text", {class: "muted"}),
    s("g", {class: "tail"}, ...Array.from({length: TAIL}, (_, n) => s("rect", {x: n * 12 - TAIL * 6 + 1, width: 10, height: 10, rx: 2}))),
    s("g", {class: "pip", transform: `translate(${NODE_R * 0.78} ${-NODE_R * 0.78})`}, s("circle", {r: 10}), s("text", {dy: 4})),
    s("rect", {class: "reach", x: -REACH, width: 2 * REACH}));
  }

  drawNode(group, node) {
    const [x, y] = this.at.get(node.key);
    const [, , id, role, line, numbers, tail, pip, reach] = group.children;
    const told = about(node, this.page.faults);
    put(group, {transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-role": told.word, "aria-label": told.sentence,
      "aria-pressed": String(node.id !== null && node.id === this.page.node()?.id)});
    const up = y < this.middle - 40;
    [role, line, numbers].forEach((text, n) => put(text, {dy: up ? [this.crowded ? -12 : -46, -29, -14][n] - NODE_R : [21, 37, 52][n] + NODE_R}));
    say(id, node.id ?? "?");
    say(role, told.heading);
    say(line, told.line);
    say(numbers, told.numbers);
    put(pip, {visibility: told.vote ? "visible" : "hidden"});
    say(pip.lastChild, told.vote ? String(told.vote) : "");
    put(reach, {y: up ? -NODE_R - WORDS : 0, height: NODE_R + WORDS});
    put(tail, {transform: `translate(0 ${up ? -NODE_R - 76 : NODE_R + 61})`});
    this.drawTail(tail, node.node?.frame?.raft);
  }

  /** The same columns for all nodes: who is behind has gaps at the end. */
  drawTail(tail, raft) {
    const entries = new Map((raft?.log ?? []).map((entry) => [entry[0], entry]));
    [...tail.children].forEach((rect, n) => {
      const entry = entries.get(Math.max(this.high, TAIL) - TAIL + 1 + n);
      put(rect, {class: entry ? `term-${(entry[1] - 1) % 6}${entry[0] > raft.commit ? " open" : ""}` : null});
    });
  }

  drawLinks(nodes) {
    const pairs = nodes.flatMap((a, n) => nodes.slice(n + 1).map((b) => [a, b]));
    const {cut} = this.page.faults;
    keyed(this.links, pairs, ([a, b]) => `${a.key}-${b.key}`, ([a, b]) => this.makeLink(a, b), (group, [a, b]) => {
      const [[ax, ay], [bx, by]] = [this.at.get(a.key), this.at.get(b.key)];
      const [one, other] = [cut.has(`${a.key}>${b.key}`), cut.has(`${b.key}>${a.key}`)];
      const broken = cut.has(`${a.key}-${b.key}`) || (one && other);
      const state = broken ? "cut" : one || other ? "half" : "whole";
      for (const line of [group.children[0], group.children[1]]) put(line, {x1: ax, y1: ay, x2: bx, y2: by});
      put(group.children[2], {transform: `translate(${(ax + bx) / 2} ${(ay + by) / 2})`});
      put(group, {"data-state": state, role: this.page.lab ? "button" : null, tabindex: this.page.lab ? 0 : null,
        "aria-label": `the link between node ${a.key} and node ${b.key}${state === "whole" ? "" : `, ${state === "cut" ? "cut" : "cut one way"}`}`});
    });
  }

  makeLink(a, b) {
    const click = () => this.page.lab && this.page.emit("link", a.id, b.id);
    return s("g", {
      class: "link", "data-testid": `link-${a.key}-${b.key}`, onclick: click,
      onkeydown: (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), click()),
    }, s("line", {class: "cable"}), s("line", {class: "reach"}), s("path", {class: "cross", d: "M-7 -7L7 7M-7 7L7 -7"}));
  }

  // ---- messages ----

  /** A frame's messages begin their way, spread over the interval that they were sent in. */
  send(node, frame) {
    if (!this.at || still()) return;
    const groups = new Map();
    for (const [type, to, , , entries] of frame.messages?.sent ?? []) {
      const {kind, answer} = shapeOf(type);
      const key = `${kind}${answer}>${to}`;
      const group = groups.get(key) ?? {kind, answer, from: String(node.id), to: String(to), number: 0};
      group.number += 1 + entries;
      groups.set(key, group);
    }
    let n = 0;
    for (const group of groups.values()) {
      if (this.at.has(group.from) && this.at.has(group.to)) this.fly(group, (n++ * INTERVAL_MS) / groups.size);
    }
  }

  /** One shape from node to node; half of the way, if the link is cut. Its element is used again. */
  fly({kind, answer, from, to, number}, delay) {
    if (this.flying >= FLIGHTS_MAX) return;
    const [a, b] = [this.at.get(from), this.at.get(to)];
    const {cut} = this.page.faults;
    const lost = cut.has(`${from}>${to}`) || cut.has([from, to].sort().join("-"));
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    const long = Math.hypot(dx, dy) || 1;
    const place = (along) => {
      const way = (NODE_R + (long - 2 * NODE_R) * along) / long;
      const [x, y] = [a[0] + dx * way - (dy / long) * LANE, a[1] + dy * way + (dx / long) * LANE];
      return `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) scale(${Math.min(0.8 + Math.log2(1 + number) * 0.2, 2).toFixed(2)})`;
    };
    const element = this.idle.pop() ?? this.dots.appendChild(h("span"));
    put(element, {class: shape(kind, answer)});
    this.flying++;
    const way = element.animate([
      {transform: place(0), opacity: 1}, {transform: place(lost ? 0.5 : 1), opacity: 1}, // both are the compositor's
    ], {duration: lost ? FLIGHT_MS / 2 : FLIGHT_MS, delay});
    way.onfinish = () => {
      this.flying--;
      this.idle.push(element);
    };
  }
}

// ---- words ----------------------------------------------------------------------------------------------------------

/** The nodes to draw, by id: those that are watched, and members that only others speak of. */
function ring(world) {
  const nodes = world.nodes.map((node) => ({key: String(node.id ?? node.url), id: node.id, node}));
  const known = new Set(nodes.map((node) => node.key));
  const members = world.nodes.flatMap((node) => Object.keys(node.frame?.raft?.members ?? {}));
  for (const id of new Set(members)) if (!known.has(id)) nodes.push({key: id, id: Number(id), node: null});
  return nodes.sort((a, b) => (a.id ?? 1e9) - (b.id ?? 1e9));
}

function about({id, node}, faults) {
  const raft = node?.frame?.raft;
  const wrong = faults.dead.has(id) ? "dead" : faults.paused.has(id) ? "paused" : node === null ? "unwatched" : node.live ? null : node.state;
  const words = {dead: "killed", paused: "paused", unwatched: "not watched", silent: "silent", lost: "no connection", connecting: "connecting"};
  const word = wrong ?? raft?.role ?? "running";
  const heading = wrong ? words[wrong] : word;
  const line = [node?.engine, raft && `term ${count(raft.term)}`].filter(Boolean).join(" · ");
  const numbers = raft ? `applied ${count(raft.applied)}` : "";
  const vote = raft?.vote || null;
  const sentence = `node ${id ?? "of unknown number"}: ${heading}` + (line && `, ${line}`) + (numbers && `, ${numbers}`) + (vote ? `, voted for node ${vote}` : "");
  return {word, heading, line, numbers, vote, sentence};
}

function summary(world) {
  const {nodes, leader} = world;
  const heard = nodes.filter((node) => node.live).length;
  const who = leader ? `Node ${leader.id} leads in term ${count(leader.frame.raft.term)}` : "No node is known to lead";
  return `${who}; ${heard} of ${plural(nodes.length, "node")} ${heard === 1 ? "is" : "are"} heard.`;
}

function drawFacts(list, world, leader) {
  const live = world.nodes.filter((node) => node.live);
  const sum = (name) => live.reduce((total, node) => total + (node.frame.rates?.[name] ?? 0), 0);
  const rate = (n) => (n > 0 && n < 9.95 ? n.toFixed(1) : count(n));
  const told = (leader ?? live[0])?.frame;
  const facts = [
    ["Leader", leader ? `node ${leader.id}` : "none"],
    ["Term", count(told?.raft?.term)],
    ["Committed", count(told?.raft?.commit)],
    ["Writes a second", rate(sum("puts"))],
    ["Reads a second", rate(sum("gets"))],
    ["A request takes", ms(Math.max(...live.map((node) => node.frame.rates?.latency_ms ?? 0), 0) || null)],
  ];
  keyed(list, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd")), (item, [, value]) => say(item.lastChild, value));
}

function shapesLegend() {
  const item = (kind, answer, words) => h("li", {}, h("span", {class: `sample ${shape(kind, answer)}`}), words);
  const list = legend([]);
  list.append(...Object.entries(KINDS).map(([kind, words]) => item(kind, false, words)), item("append", true, "hollow: the answer"),
    h("li", {}, h("span", {class: "pip-sample"}, "1"), "whom it voted for"), h("li", {}, h("span", {class: "swatch term-0"}), "the last entries of its log, by term"));
  return list;
}

/** Where motion isn't wanted: how many messages of each kind the nodes say they sent in the last interval. */
function stillRates(world) {
  const sent = {};
  for (const node of world.nodes) {
    for (const [type] of (node.live && node.frame.messages?.sent) || []) sent[type] = (sent[type] ?? 0) + 1;
  }
  const words = Object.entries(sent).map(([type, n]) => `${n} ${type}`).join(", ");
  return `Messages of the last tenth of a second: ${words || "none"}.`;
}

function showLog(page) {
  const node = page.node();
  const segment = node?.frame?.wal?.segments?.at(-1);
  if (segment) page.bytes(node, `wal/${segment[0]}`);
}
