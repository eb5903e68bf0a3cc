/* The LSM tree: memtables that fill, levels of tables with their key ranges, the compaction that runs, and its price.

       memtable  ▓▓▓▓▓▓▓▓░░░░  2.6 of 4 MiB            frozen  ▓▓▓▓▓▓▓▓▓▓▓▓
       L0   ▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭                          one row for each table: their ranges overlap
            ▭▭▭▭▭▭▭▭▭▭▭▭
       L1   ▭▭▭▭ ▭▭▭ ▭▭▭▭▭▭▭▭                          one row: ranges are disjoint
       L2   ▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭▭

   From left to right lie the keys, by rank: every first and last key of a table is one step. So tables that are neighbours
   touch, and a wide one is one that overlaps many others, whatever its size. All numbers are describe()'s, as the feed sketches it (engines/lsm/inspect.py):
   up to 64 tables come one by one, of more than that each level in up to 16 runs of neighbours.

   When all tables of a large store are asked for, a level with very many is a grid of equal cells, in the order of keys.

   A table that a watched key's get asked is marked with what it said, and inputs of the running compaction are hatched. */

import {Explain, Whole, facts, gauge, keyWords, running, verdict} from "./explain.js";
import {Timeline, bytes, count, drawing, h, keyed, legend, percent, picture, plural, put, s, say} from "./svg.js";

const LEFT = 92; // of the levels' names
const RIGHT = 84; // of how full they are
const ROW = 22;
const THIN = 13; // a row of level 0
const L0_ROWS = 12;
const CELL = 11; // of a table where a level has too many to lie side by side

export const view = {
  id: "lsm",
  title: "LSM tree",
  engine: "lsm",
  mount(root, page) {
    return new Lsm(root, page);
  },
};

class Lsm {
  constructor(root, page) {
    this.page = page;
    this.memory = picture({
      id: "lsm-memory", title: "In memory", chapter: [5, "LSM: skiplist memtable and WAL"],
      what: "Writes go to a log and into the memtable, which keeps them in order of keys. When it is full it is frozen, and becomes a table of level 0.",
      bytes: () => this.bytes("log"),
    });
    this.fill = gauge();
    this.fillWords = h("p", {class: "label", "data-testid": "memtable"});
    this.frozen = h("ul", {class: "frozen", "aria-label": "Frozen memtables", "data-testid": "frozen"});
    this.memory.body.append(this.fillWords, this.fill.root, this.frozen);

    this.levels = picture({
      id: "lsm-levels", title: "Levels", chapter: [9, "LSM: leveled compaction"],
      what: "A table is a file of sorted keys that never changes; on each level from 1 on no two tables share keys. "
        + "A compaction merges tables of a full level with those below that overlap them, and drops what is old.",
      bytes: () => this.bytes("MANIFEST"),
    });
    this.compaction = running("compaction");
    this.drawing = drawing(700, 200);
    put(this.drawing.root, {role: "group", class: "drawing levels", "data-testid": "levels"});
    this.hatch = s("defs", {}, s("pattern", {id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, s("line", {class: "hatch", x1: 0, y1: 0, x2: 0, y2: 6})));
    this.rows = s("g", {onkeydown: (event) => goFrom(event)});
    this.axis = s("text", {class: "muted axis-words"});
    this.drawing.root.append(this.hatch, this.rows, this.axis);
    this.whole = new Whole(page, "whole-levels");
    this.levels.body.append(this.compaction.root, this.drawing.root, this.whole.root, legend([["part-1", "a table"], ["part-6", "a run of tables"], ["hatched", "input of the running compaction"], ["verdict-found", "its block was read"], ["verdict-denied", "its filter denied the key"]]));

    this.reading = picture({
      id: "lsm-get", title: "What a get touches", chapter: [10, "LSM: bloom filters and block cache"],
      what: "A get asks the newest place first and stops at the first that knows the key. A filter of a few bits for each key says of most tables that the key is certainly not there, without a read.",
    });
    this.explain = new Explain(page, {engine: "lsm", words, bytesOf});
    this.reading.body.append(this.explain.root);

    this.price = picture({
      id: "lsm-price", title: "What it costs", chapter: [9, "LSM: leveled compaction"],
      what: "Write amplification is how many bytes went to files for each byte that was written by users: the log, the flush, and each compaction that a value goes through. Reads pay for what compaction saves, and the other way round.",
    });
    this.facts = h("dl", {class: "facts engine-facts", "data-testid": "lsm-facts"});
    this.amplification = new Timeline({title: "Write amplification", show: (n) => n.toFixed(2)});
    this.written = new Timeline({title: "Written to files", show: bytes});
    this.price.body.append(this.facts, h("div", {class: "columns"}, this.amplification.root, this.written.root));
    root.append(this.memory.root, this.levels.root, this.reading.root, this.price.root);
  }

  draw(now) {
    const node = this.page.node("lsm");
    const told = node?.store?.describe;
    this.explain.draw(node);
    if (!told?.levels || !told.counters) return say(this.levels.note, told ? "The engine doesn't tell of its levels." : "No node that runs this engine has told of it yet."), false;
    if (node.store !== this.store) this.note(node, now);
    this.drawMemory(told);
    this.drawLevels(told, node);
    const {counters} = told;
    facts(this.facts, [
      ["Write amplification", counters.write_amplification.toFixed(2), "write-amplification"],
      ["Written by users", bytes(counters.user_bytes)],
      ["Written to files", bytes(counters.bytes_written)],
      ["Read from files", bytes(counters.bytes_read)],
      ["Flushes", count(counters.flushes)],
      ["Compactions", count(counters.compactions)],
      ["Filters said no", count(counters.filter_hits)],
      ["Blocks from the cache", counters.block_lookups ? percent(counters.block_cache_hits / counters.block_lookups) : "–"],
    ]);
    this.amplification.draw();
    this.written.draw();
    return false;
  }

  /** A new description: a point on each line. Another node begins new lines. */
  note(node, now) {
    if (this.of !== node.id) for (const line of [this.amplification, this.written]) line.points = [];
    Object.assign(this, {of: node.id, store: node.store});
    this.amplification.add(now, node.store.describe.counters.write_amplification);
    this.written.add(now, node.store.describe.counters.bytes_written);
  }

  drawMemory(told) {
    const {memtable, frozen, log} = told;
    const sentence = `${plural(memtable.entries, "version")} of keys, ${bytes(memtable.bytes)} of ${bytes(memtable.full_bytes)}`;
    say(this.memory.note, `Log ${log.number} has ${bytes(log.bytes)}; ${frozen.length ? plural(frozen.length, "frozen memtable waits", "frozen memtables wait") + " for the flush" : "no memtable waits for its flush"}.`);
    say(this.fillWords, `Memtable: ${sentence}`);
    this.fill.show(memtable.bytes, memtable.full_bytes, `the memtable is filled to ${percent(memtable.bytes / memtable.full_bytes)}: ${sentence}`, "part-2");
    keyed(this.frozen, frozen, (_, at) => at, () => h("li", {class: "part-6 on"}), (item, each) => say(item, `frozen: ${plural(each.entries, "version")}, ${bytes(each.bytes)}`));
  }

  drawLevels(told, node) {
    const summed = told.levels.some((level) => level.spans);
    this.whole.show(node, summed ? "Each bar is a run of neighbours. Show every table" : null);
    const whole = this.whole.told?.levels?.map((level) => ({...level, tables: level.files.length}));
    const shown = (whole ?? told.levels).filter((level) => level.tables || level.level === 0);
    const tables = shown.reduce((sum, level) => sum + level.tables, 0);
    const size = shown.reduce((sum, level) => sum + level.bytes, 0);
    say(this.levels.note, `${plural(tables, "table")} with ${bytes(size)} on ${plural(shown.filter((level) => level.tables).length, "level")}, as of index ${count(whole ? this.whole.applied : node.store.applied)}.`);
    const work = told.running_compaction;
    this.compaction.show(work && workWords(work), work && !work.trivial ? work.output_bytes / Math.max(1, work.input_bytes) : null);

    const width = Math.max(300, this.levels.body.clientWidth);
    const narrow = width < 520;
    const [left, right] = narrow ? [34, 0] : [LEFT, RIGHT];
    const ranks = ranksOf(shown);
    const x = (key, side) => left + (((ranks.get(key) ?? 0) + side) / Math.max(1, ranks.size)) * (width - left - right - 4);
    const verdicts = new Map((this.explain.latest?.steps ?? []).filter((step) => step.place === "table").map((step) => [step.number, verdict(step)]));
    let y = 4;
    const placed = shown.map((level) => {
      const parts = level.files ?? level.spans;
      const stacked = level.level === 0 && level.files !== undefined;
      const across = Math.floor((width - left - right) / CELL);
      const grid = parts.length > across / 2 ? across : 0;
      const high = grid ? Math.ceil(parts.length / grid) * CELL + 4 : stacked ? Math.max(ROW, Math.min(parts.length, L0_ROWS) * THIN + 2) : ROW;
      y += high + (narrow ? 26 : 14);
      return {level, parts, stacked, grid, y: y - high};
    });
    this.drawing.size(width, y + 26);
    put(this.axis, {x: left, y: y + 19});
    const keys = [...ranks.keys()];
    say(this.axis, keys.length ? `keys from ${short(keyWords(keys[0]), narrow)} to ${short(keyWords(keys.at(-1)), narrow)}` : "no tables yet");
    this.drawing.tell(shown.map(levelWords).join("; "));
    keyed(this.rows, placed, (row) => row.level.level, () => s("g", {}, s("text", {class: "level-name"}), s("text", {class: "muted level-size"}), s("text", {class: "muted level-fill"}), s("g")), (group, row) => {
      const [name, words_, fill, boxes] = group.children;
      const {level} = row;
      put(group, {"data-testid": `level-${level.level}`, "data-tables": level.tables, "data-bytes": level.bytes, role: "group", "aria-label": levelWords(level)});
      put(name, {x: 0, y: row.y + 15});
      say(name, `L${level.level}`);
      put(words_, narrow ? {x: left, y: row.y - 5} : {x: 28, y: row.y + 15});
      say(words_, narrow ? `${plural(level.tables, "table")}, ${bytes(level.bytes)}` : bytes(level.bytes));
      put(fill, {x: width, y: row.y + 15, visibility: narrow ? "hidden" : "visible", "data-full": level.score >= 1 ? "yes" : "no"});
      say(fill, level.score === null ? plural(level.tables, "table") : `${percent(level.score)} full`);
      keyed(boxes, row.parts, (part, at) => part.number ?? `run ${at}`, () => s("rect", {role: "img"}, s("title")), (box, part, at) => {
        const place = row.grid
          ? {x: left + (at % row.grid) * CELL, width: CELL - 1, y: row.y + Math.floor(at / row.grid) * CELL, height: CELL - 1}
          : {x: x(part.first, 0).toFixed(1), width: Math.max(3, x(part.last, 1) - x(part.first, 0)).toFixed(1),
            y: row.stacked ? row.y + Math.min(at, L0_ROWS - 1) * THIN : row.y, height: row.stacked ? THIN - 2 : ROW};
        const input = work?.inputs.includes(part.number);
        put(box, {
          ...place, rx: row.grid ? 1.5 : 3, tabindex: at === 0 ? 0 : -1, class: `table ${part.number === undefined ? "part-6" : "part-1"}${input ? " input" : ""}`,
          "data-verdict": verdicts.get(part.number) ?? null, "aria-label": partWords(part, input),
          "data-testid": part.number === undefined ? null : `table-${part.number}`,
        });
        say(box.firstChild, partWords(part, input));
      });
    });
  }

  bytes(kind) {
    const node = this.page.node("lsm");
    const told = node?.store?.describe;
    if (!told) return;
    const number = (n, end) => `engine/${String(n).padStart(6, "0")}${end}`;
    const file = kind === "log" ? number(told.log.number, ".log") : `engine/MANIFEST-${String(told.manifest).padStart(6, "0")}`;
    this.page.go("bytes", {node: node.id, file});
  }
}

// ---- words ----------------------------------------------------------------------------------------------------------

const short = (text, narrow) => (text.length > (narrow ? 12 : 40) ? text.slice(0, narrow ? 11 : 39) + "…" : text);

/** One stop of the Tab key for each level; the arrow keys go from table to table. */
function goFrom(event) {
  const to = {ArrowRight: "nextSibling", ArrowLeft: "previousSibling"}[event.key];
  if (!to || !event.target[to]) return;
  event.preventDefault();
  event.target[to].focus();
}

/** Each first and last key of a table, in order, with its rank. */
function ranksOf(levels) {
  const keys = new Set(levels.flatMap((level) => (level.files ?? level.spans).flatMap((part) => [part.first, part.last])));
  return new Map([...keys].sort().map((key, rank) => [key, rank]));
}

function levelWords(level) {
  const limit = level.limit_bytes ? ` of ${bytes(level.limit_bytes)}` : level.limit_files ? `, compacted at ${level.limit_files} tables` : "";
  return `level ${level.level}: ${plural(level.tables, "table")}, ${bytes(level.bytes)}${limit}`;
}

function partWords(part, input) {
  const name = part.number === undefined ? plural(part.tables, "table") : `table ${part.number}`;
  const entries = part.entries === undefined ? "" : `, ${plural(part.entries, "entry", "entries")}`;
  const dead = part.tombstones ? `, ${plural(part.tombstones, "tombstone")}` : "";
  return `${name}: ${bytes(part.bytes)}${entries}${dead}, keys ${keyWords(part.first)} to ${keyWords(part.last)}${input ? "; input of the running compaction" : ""}`;
}

function workWords(work) {
  const why = {size: "the level is full", manual: "it was asked for", tombstones: "it has many tombstones"}[work.reason] ?? work.reason;
  if (work.trivial) return `A table moves from level ${work.from_level} to level ${work.to_level}: nothing below it overlaps.`;
  return `Compaction from level ${work.from_level} to ${work.to_level}, because ${why}: ${plural(work.inputs.length, "table")} with ${bytes(work.input_bytes)} go in, `
    + `${bytes(work.output_bytes)} came out so far, in ${plural(work.outputs.length, "table")}, after ${work.seconds.toFixed(1)} s.`;
}

function words(step) {
  if (step.place === "table") return `table ${step.number} of level ${step.level}${step.block === undefined ? "" : `, block ${step.block + 1} of ${step.blocks} (${bytes(step.block_bytes)}${step.cached ? ", in the cache" : ""})`}`;
  if (step.place === "level") return `level ${step.level}`;
  return step.place;
}

function bytesOf(step) {
  if (step.place !== "table") return null;
  const file = `engine/${String(step.number).padStart(6, "0")}.ldb`;
  return step.offset === undefined ? {file} : {file, find: step.offset.toString(16).padStart(8, "0")};
}
