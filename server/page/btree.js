/* The B+tree: every page of the file as a cell, the two metas, who pins which tree, and the way of a key through the pages.

       M M B L L o o L F . . L          a cell for each page, row by row, as the file has them
             ▔                          a cell that a watched key's path goes through is framed;
                                        one that was another kind a moment ago is ringed until it fades

   Copy-on-write is seen twice: in the map, where a commit fills free cells and frees others; and in the path of a watched
   key, whose pages before and after a put have other numbers from the meta to the leaf.

   The map is drawn on a canvas, because ten thousand elements are slow and ten thousand cells aren't. The feed has up to 2,048
   letters (engines/btree/survey.py): of a larger file each stands for `map_step` pages, the most frequent kind among them, and
   the whole map is fetched when it is asked for (GET /_/describe). With the keyboard, a cursor goes from cell to cell. */

import {Explain, Whole, facts} from "./explain.js";
import {Timeline, bytes, count, h, keyed, legend, picture, plural, put, say, still} from "./svg.js";

const KINDS = {
  M: ["meta", "--c4"], F: ["freelist", "--c6"], B: ["branch", "--c1"], L: ["leaf", "--c2"], o: ["overflow", "--c3"], ".": ["free", "--none"], w: ["waiting", "--c5"], "?": ["unknown", "--strong"],
};
const FADE_MS = 1600;
const LETTERS_FROM = 13; // pixels of a cell that has room for its letter

export const view = {
  id: "btree",
  title: "B+tree",
  engine: "btree",
  mount(root, page) {
    return new BTree(root, page);
  },
};

class BTree {
  constructor(root, page) {
    Object.assign(this, {page, changed: new Map(), cursor: null});
    this.file = picture({
      id: "btree-map", title: "The file, page by page", chapter: [13, "B+tree: free pages and long readers"],
      what: "A database is one file of pages of equal size; leaves hold the pairs, branches say which child has which keys. "
        + "No page in use is ever written over: a commit writes copies to free pages, and the old ones are free when nobody reads them any more.",
      bytes: () => this.bytes("page 2:"),
    });
    this.canvas = h("canvas", {class: "pages", tabindex: 0, role: "img", "data-testid": "pages",
      onkeydown: (event) => this.move(event), onpointermove: (event) => this.point(event), onpointerleave: () => this.say(null), onblur: () => this.say(null), onclick: () => this.cursor !== null && this.open(this.cursor)});
    this.under = h("p", {class: "label under", "aria-live": "polite", "data-testid": "page-under"});
    this.whole = new Whole(page, "whole-map");
    this.file.body.append(this.canvas, this.under, this.whole.root, h("ul", {class: "legend"}, ...Object.entries(KINDS).slice(0, 7).map(([letter, [name]]) => h("li", {}, h("span", {class: `cell-sample page-${name}`}, letter), name)), h("li", {}, h("span", {class: "cell-sample path"}), "on the watched key's path"), h("li", {}, h("span", {class: "cell-sample fresh"}), "changed just now")));

    this.metas = picture({
      id: "btree-metas", title: "Two metas, and who holds a tree", chapter: [12, "B+tree: copy-on-write commit"],
      what: "Two pages say in turn where the newest tree begins, so that a crash while one is written leaves the other. "
        + "A reader, or the last commit that is safely on disk, pins its tree: pages that only that tree has wait until it is let go.",
      bytes: () => this.bytes("meta page"),
    });
    this.cards = h("div", {class: "columns cards"});
    this.pins = h("tbody", {"data-testid": "pins"});
    this.metas.body.append(this.cards, h("div", {class: "wide"}, h("table", {class: "pins"}, h("thead", {}, h("tr", {}, ...["Tree of txid", "Held by", "Pages that wait for it"].map((name) => h("th", {scope: "col"}, name)))), this.pins)));

    this.path = picture({
      id: "btree-get", title: "The path of a key", chapter: [11, "B+tree: pages"],
      what: "A get reads one page for each level, from the meta to a leaf. A put of the same key copies exactly these pages: watch a key, write it, and compare the page numbers before and after.",
    });
    this.explain = new Explain(page, {engine: "btree", words, bytesOf: (step) => ({file: "engine", find: step.place === "meta" ? "meta page" : `page ${step.page}:`})});
    this.copied = h("p", {class: "copied", role: "status", "data-testid": "copied"});
    this.paths = h("div", {class: "paths", "data-testid": "paths"});
    this.path.body.append(this.explain.root, this.copied, this.paths);

    this.growth = picture({
      id: "btree-growth", title: "How the file grows", chapter: [13, "B+tree: free pages and long readers"],
      what: "The file grows when no free page is left, by doubling until 16 MiB and in steps of that after it, and never shrinks by itself. What is deleted becomes free pages, which the next commits use.",
    });
    this.facts = h("dl", {class: "facts engine-facts", "data-testid": "btree-facts"});
    this.used = new Timeline({title: "Pages in use", show: count});
    this.size = new Timeline({title: "Size of the file", show: bytes});
    this.growth.body.append(this.facts, h("div", {class: "columns"}, this.used.root, this.size.root));
    root.append(this.file.root, this.metas.root, this.path.root, this.growth.root);
  }

  draw(now) {
    const node = this.page.node("btree");
    const told = node?.store?.describe;
    this.explain.draw(node);
    if (typeof told?.map !== "string" || !told.kinds) return say(this.file.note, told ? "The engine doesn't tell of its pages." : "No node that runs this engine has told of it yet."), false;
    if (node.store !== this.store) this.note(node, told, now);
    this.whole.show(node, told.map_step > 1 ? `Each cell stands for ${told.map_step} pages. Show all ${count(told.pages)}` : null);
    this.drawMetas(told);
    this.drawPaths();
    const {counters} = told;
    facts(this.facts, [
      ["Depth", plural(told.depth, "level")], ["Pages", count(told.pages)], ["Free", count(told.free)], ["Waiting", count(told.pending)],
      ["Page size", bytes(told.page_size)], ["Nodes in memory", count(told.cached_nodes)],
      ["Write amplification", counters.write_amplification.toFixed(2)], ["Fsyncs", count(counters.fsyncs)],
    ]);
    this.used.draw();
    this.size.draw();
    return this.paint(now);
  }

  note(node, told, now) {
    const other = this.of !== node.id;
    if (other) for (const line of [this.used, this.size]) line.points = [];
    if (!other && this.told.map_step === told.map_step && !this.whole.told) {
      for (let at = 0; at < told.map.length; at++) if (told.map[at] !== this.told.map[at]) this.changed.set(at, now);
    } else this.changed.clear();
    Object.assign(this, {of: node.id, store: node.store, told});
    this.used.add(now, told.pages - told.free - told.pending);
    this.size.add(now, told.file_bytes);
    const {kinds} = told;
    const words = Object.entries(kinds).filter(([, n]) => n).map(([name, n]) => `${count(n)} ${name}`).join(", ");
    say(this.file.note, `${plural(told.pages, "page")} of ${bytes(told.page_size)} as of index ${count(node.store.applied)}, txid ${count(told.txid)}: ${words}.`);
    put(this.canvas, {"aria-label": `Map of ${plural(told.pages, "page")}: ${words}. The arrow keys go from page to page.`});
    for (const [name, n] of Object.entries(kinds)) put(this.canvas, {[`data-${name}`]: n});
    put(this.canvas, {"data-pages": told.pages, "data-txid": told.txid});
  }

  // ---- the map ----

  /** Draws the cells; true while something fades. O(cells), a rectangle each. */
  paint(now) {
    const {map, step} = this.whole.told ? {map: this.whole.told.map, step: 1} : {map: this.told.map, step: this.told.map_step};
    const width = Math.max(240, this.file.body.clientWidth);
    const cell = Math.max(5, Math.min(26, Math.floor(Math.sqrt((width * 260) / Math.max(1, map.length)))));
    const across = Math.max(1, Math.floor(width / cell));
    const high = Math.ceil(map.length / across) * cell;
    const fading = [...this.changed].filter(([, at]) => now - at < FADE_MS);
    this.changed = new Map(fading);
    const path = (this.explain.latest?.steps ?? []).flatMap((each) => (each.page === undefined ? [] : [Math.floor(each.page / step)]));
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const version = [map === this.map, width, dark, path, this.cursor, fading.length && !still() ? now : fading.length].join();
    if (version === this.version) return false;
    Object.assign(this, {version, map, step, cell, across});
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== across * cell * scale || this.canvas.height !== high * scale) Object.assign(this.canvas, {width: across * cell * scale, height: high * scale});
    this.canvas.style.width = `${across * cell}px`;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, across * cell, high);
    const gap = cell > 7 ? 1.5 : 1;
    const box = (at, grow = 0) => [(at % across) * cell - grow, Math.floor(at / across) * cell - grow, cell - gap + 2 * grow, cell - gap + 2 * grow];
    for (const [letter, [, name]] of Object.entries(KINDS)) {
      pen.fillStyle = colour(name);
      for (let at = map.indexOf(letter); at >= 0; at = map.indexOf(letter, at + 1)) pen.fillRect(...box(at));
    }
    if (cell >= LETTERS_FROM) {
      pen.fillStyle = colour("--on");
      pen.font = `${Math.round(cell * 0.5)}px ${colour("--code")}`;
      Object.assign(pen, {textAlign: "center", textBaseline: "middle"});
      for (let at = 0; at < map.length; at++) if (map[at] !== ".") pen.fillText(map[at], (at % across) * cell + (cell - gap) / 2, Math.floor(at / across) * cell + (cell - gap) / 2 + 1);
    }
    pen.strokeStyle = colour("--warn");
    pen.lineWidth = 1.5;
    for (const [at, when] of fading) {
      pen.globalAlpha = still() ? 1 : 1 - (now - when) / FADE_MS;
      pen.strokeRect(...box(at, -0.5));
    }
    Object.assign(pen, {globalAlpha: 1, lineWidth: 2.5, strokeStyle: colour("--ink")});
    for (const at of path) pen.strokeRect(...box(at, 0));
    pen.strokeStyle = colour("--accent");
    if (this.cursor !== null) pen.strokeRect(...box(Math.min(this.cursor, map.length - 1), 1));
    return fading.length > 0 && !still();
  }

  say(at) {
    this.cursor = at === null ? null : Math.max(0, Math.min(at, this.map.length - 1));
    const first = this.cursor * this.step;
    const last = Math.min(first + this.step, this.told.pages) - 1;
    say(this.under, this.cursor === null ? "" : `${this.step > 1 ? `pages ${count(first)} to ${count(last)}, most of them` : `page ${count(first)}:`} ${KINDS[this.map[this.cursor]]?.[0]}`);
    this.page.wake();
  }

  move(event) {
    if (!this.map) return;
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.across, ArrowUp: -this.across, Home: -1e9, End: 1e9}[event.key];
    if (by !== undefined) this.say((this.cursor ?? -1) + by);
    else if (event.key === "Enter" && this.cursor !== null) this.open(this.cursor);
    else return;
    event.preventDefault();
  }

  point(event) {
    if (!this.map) return;
    const {left, top} = this.canvas.getBoundingClientRect();
    const at = Math.floor((event.clientY - top) / this.cell) * this.across + Math.floor((event.clientX - left) / this.cell);
    this.say(at < this.map.length ? at : null);
  }

  open(at) {
    this.bytes(this.map[at] === "M" ? "meta page" : `page ${at * this.step}:`);
  }

  bytes(find) {
    const node = this.page.node("btree");
    if (node) this.page.go("bytes", {node: node.id, file: "engine", find});
  }

  // ---- metas, pins, paths ----

  drawMetas(told) {
    const newest = Math.max(...told.metas.map((meta) => meta.txid ?? 0));
    say(this.metas.note, `The newest tree is that of txid ${count(told.txid)}; a power cut falls back to txid ${count(told.durable_txid)}.`);
    keyed(this.cards, told.metas, (meta) => meta.page, () => h("div", {class: "card"}, h("h3"), h("p"), h("p", {class: "label"})), (card, meta) => {
      const [name, main, words] = card.children;
      put(card, {"data-newest": String(meta.txid === newest), "data-testid": `meta-${meta.page}`});
      say(name, `Meta page ${meta.page}${meta.txid === newest ? ", the newest" : ""}`);
      say(main, meta.damaged ? "damaged" : `txid ${count(meta.txid)}`);
      say(words, meta.damaged ?? `root ${count(meta.root)}, ${meta.freelist === null ? "no freelist" : `freelist ${count(meta.freelist)}`}, ${count(meta.high_water)} pages, ${meta.provisional ? "not synced: its sum tells whether it is whole" : "synced"}`);
    });
    keyed(this.pins, told.pins, (pin) => pin.txid, () => h("tr", {}, h("td", {class: "number"}), h("td"), h("td", {class: "number"})), (row, pin) => {
      const who = [pin.readers ? plural(pin.readers, "reader") : null, pin.durable ? "a power cut, which falls back to it" : null].filter(Boolean).join("; ");
      [count(pin.txid), who || "a reader that is just gone", count(pin.pages)].forEach((text, at) => say(row.children[at], text));
    });
  }

  /** The pages of the watched key before the last change and now: those that differ were copied. */
  drawPaths() {
    const {latest, previous} = this.explain;
    const pages = (told) => (told?.steps ?? []).filter((step) => step.page !== undefined);
    const [now, before] = [pages(latest), pages(previous)];
    const old = new Set(before.map((step) => step.page));
    const copies = now.filter((step) => step.place !== "meta"); // a meta has one of two pages, whatever was copied
    const copied = copies.filter((step) => !old.has(step.page)).length;
    say(this.copied, before.length ? `${copied} of ${plural(copies.length, "page")} below the meta are other ones than before the last change${copied === copies.length ? ": the whole path was copied" : ""}.` : "");
    const rows = [["before", before], ["now", now]].filter(([, steps]) => steps.length && previous);
    keyed(this.paths, rows, ([name]) => name, ([name]) => h("ol", {class: "path-row", "aria-label": `the path ${name}`}), (list, [name, steps]) => {
      keyed(list, [null, ...steps], (step, at) => at, () => h("li"), (item, step) => {
        say(item, step === null ? name : `${step.result.startsWith("names the bucket") ? "root bucket" : step.place} ${step.page}`);
        put(item, {class: step === null ? "path-name" : `path-page page-${step.place.split(" ").at(-1)}`, "data-new": step && name === "now" ? String(!old.has(step.page)) : null});
      });
    });
  }
}

function words(step) {
  if (step.place === "meta") return `meta page ${step.page}, txid ${count(step.txid)}`;
  const place = step.result.startsWith("names the bucket") ? "the root bucket's leaf" : step.place;
  const born = step.born ? `, written by txid ${count(step.born)}` : "";
  return `${place}, page ${step.page}: ${plural(step.keys, "key")}, ${bytes(step.used_bytes)}${born}`;
}
