/* Bitcask: segments with what is live and dead in them, the keydir, hints, and the merge that runs.

       3  sealed   ▓▓▓▓▓▓▓▓▓▓▓░░░░░░░   live, dead      hint 1.2 KiB
       4  sealed   ▓▓▓▓▓▓░░░░░░░░░░░░
       5  active   ▓▓▓▓▓▓▓▓                             the one that is written to

   A row for each segment, the oldest first, all to one scale. Up to 48 come one by one; of more, each row is a run of
   neighbours (engines/bitcask/check.py). All numbers are describe()'s. The segment that has a watched key's record is marked. */

import {Explain, Whole, facts, running} from "./explain.js";
import {Timeline, bytes, count, h, keyed, legend, percent, picture, plural, put, say, stack} from "./svg.js";

export const view = {
  id: "bitcask",
  title: "Bitcask",
  engine: "bitcask",
  mount(root, page) {
    return new Bitcask(root, page);
  },
};

class Bitcask {
  constructor(root, page) {
    this.page = page;
    this.files = picture({
      id: "bitcask-segments", title: "Segments", chapter: [4, "Bitcask: merge and hint files"],
      what: "Every write is appended to the active segment; what it replaces becomes dead bytes in an older one. "
        + "A merge copies the live records of old segments into new ones, with a hint beside each, from which the next opening learns the keys without reading the values.",
      bytes: () => this.bytes(),
    });
    this.merge = running("merge");
    this.rows = h("ul", {class: "segments", "data-testid": "segments"});
    this.whole = new Whole(page, "whole-segments");
    this.files.body.append(this.merge.root, this.rows, this.whole.root, legend([["live", "live"], ["dead", "dead: overwritten or deleted"], ["part-3", "tombstones"], ["input-sample", "input of the running merge"]]));

    this.keydir = picture({
      id: "bitcask-keydir", title: "The keydir", chapter: [3, "Bitcask"],
      what: "All keys are in memory, each with the place of its last record: segment, offset and size. So a get is one lookup and one read, and the keys have to fit in memory, whatever the values take.",
    });
    this.facts = h("dl", {class: "facts engine-facts", "data-testid": "bitcask-facts"});
    this.memory = new Timeline({title: "The keydir takes about", show: bytes});
    this.dead = new Timeline({title: "Dead bytes", show: bytes});
    this.keydir.body.append(this.facts, h("div", {class: "columns"}, this.memory.root, this.dead.root));

    this.reading = picture({
      id: "bitcask-get", title: "What a get touches", chapter: [3, "Bitcask"],
      what: "The keydir says where the record lies; one read fetches it with its checksum, which is verified. A key that isn't in the keydir costs no read at all.",
    });
    this.explain = new Explain(page, {engine: "bitcask", words, bytesOf});
    this.reading.body.append(this.explain.root);
    root.append(this.files.root, this.keydir.root, this.reading.root);
  }

  draw(now) {
    const node = this.page.node("bitcask");
    const told = node?.store?.describe;
    this.explain.draw(node);
    if (!(told?.segments || told?.spans) || !told.counters) return say(this.files.note, told ? "The engine doesn't tell of its segments." : "No node that runs this engine has told of it yet."), false;
    const parts = told.segments ?? told.spans;
    const sum = (name) => parts.reduce((total, part) => total + part[name], 0);
    const [data, live] = [sum("data_bytes"), sum("live_bytes")];
    if (node.store !== this.store) {
      if (this.of !== node.id) for (const line of [this.memory, this.dead]) line.points = [];
      Object.assign(this, {of: node.id, store: node.store});
      this.memory.add(now, told.keydir_bytes);
      this.dead.add(now, data - live);
    }
    say(this.files.note, `${plural(told.segment_count, "segment")} with ${bytes(data)}, of which ${bytes(data - live)} (${percent(data ? (data - live) / data : 0)}) are dead, as of index ${count(node.store.applied)}.`);
    this.drawMerge(told.running_merge);
    this.whole.show(node, told.spans ? "Each row is a run of neighbours. Show every segment" : null);
    this.drawSegments(this.whole.told?.segments ?? parts, told);
    const {counters} = told;
    facts(this.facts, [
      ["Keys", count(told.keys)],
      ["In memory, about", bytes(told.keydir_bytes), "keydir-bytes"],
      ["For each key", told.keys ? bytes(told.keydir_bytes / told.keys) : "–"],
      ["Hints", bytes(sum("hint_bytes"))],
      ["Snapshots", count(told.snapshots)],
      ["Merges", count(counters.merges)],
      ["Write amplification", counters.write_amplification.toFixed(2)],
      ["Fsyncs", count(counters.fsyncs)],
    ]);
    this.memory.draw();
    this.dead.draw();
    return false;
  }

  drawMerge(merge) {
    this.merge.show(merge && `Merge: ${plural(merge.inputs.length, "segment")} with ${bytes(merge.input_bytes)} go in, ${bytes(merge.output_bytes)} of live records came out so far, in ${plural(merge.outputs.length, "segment")}.`, merge && merge.output_bytes / Math.max(1, merge.input_bytes));
  }

  drawSegments(parts, told) {
    const widest = Math.max(1, ...parts.map((part) => part.data_bytes));
    const at = this.explain.latest?.steps.find((step) => step.place === "segment")?.segment;
    const inputs = new Set(told.running_merge?.inputs ?? []);
    keyed(this.rows, parts, (part) => part.id ?? `${part.first_id}-${part.last_id}`, () => {
      const bar = stack();
      const row = h("li", {}, h("b"), h("span", {class: "state"}), bar.root, h("span", {class: "label size"}), h("span", {class: "label hint"}));
      row.bar = bar;
      return row;
    }, (row, part) => {
      const [name, state, , size, hint] = row.children;
      const first = part.id ?? part.first_id;
      const last = part.id ?? part.last_id;
      const dead = part.data_bytes - part.live_bytes - part.tombstone_bytes;
      put(row, {
        "data-testid": `segment-${first}`, "data-data": part.data_bytes, "data-live": part.live_bytes, "data-hint": part.hint_bytes,
        "data-state": part.state ?? "run", "data-input": inputs.has(part.id) ? "yes" : null, "data-here": at >= first && at <= last ? "yes" : null,
      });
      say(name, part.id === undefined ? `${part.first_id}–${part.last_id}` : String(part.id));
      say(state, part.state ?? plural(part.segments, "file"));
      row.bar.show([
        {value: part.live_bytes, kind: "live", title: `${bytes(part.live_bytes)} live`},
        {value: Math.max(0, dead), kind: "dead", title: `${bytes(Math.max(0, dead))} dead`},
        {value: part.tombstone_bytes, kind: "part-3", title: `${bytes(part.tombstone_bytes)} of tombstones`},
      ], widest);
      say(size, `${bytes(part.data_bytes)}, ${percent(part.data_bytes ? 1 - part.live_bytes / part.data_bytes : 0)} garbage`);
      say(hint, part.hint_bytes ? `hint ${bytes(part.hint_bytes)}` : part.state === "active" ? "no hint yet" : "no hint");
    });
  }

  bytes() {
    const node = this.page.node("bitcask");
    const parts = node?.store?.describe?.segments ?? node?.store?.describe?.spans;
    const last = parts?.at(-1);
    if (last) this.page.go("bytes", {node: node.id, file: `engine/${last.id ?? last.last_id}.bitcask.data`});
  }
}

function words(step) {
  if (step.place === "keydir") return `the keydir, with ${plural(step.keys, "key")}`;
  return `${step.file}, ${step.state}: a record of ${bytes(step.record_bytes)} at byte ${count(step.offset)}`;
}

function bytesOf(step) {
  return step.place === "segment" ? {file: `engine/${step.file}`, find: step.offset.toString(16).padStart(8, "0")} : null;
}
