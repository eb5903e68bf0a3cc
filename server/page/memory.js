/* The map in memory: the engine that all others are held to, and the lesson's "map". There is not much to see, and that is
   its point: nothing outlives the process, and under Raft that is enough, because the log and its snapshots do. */

import {Explain, facts} from "./explain.js";
import {bytes, count, h, picture, plural, say} from "./svg.js";

export const view = {
  id: "memory",
  title: "Map in memory",
  engine: "memory",
  mount(root, page) {
    const map = picture({
      id: "memory-map", title: "The map", chapter: [1, "The contract"],
      what: "A sorted map in memory; a snapshot keeps, for each key that is written after it, what the key was. "
        + "When the process ends, all of it is gone, and the next start has it again from the Raft log.",
    });
    const list = h("dl", {class: "facts", "data-testid": "memory-facts"});
    const explain = new Explain(page, {engine: "memory", words: (step) => `the map, with ${plural(step.keys, "key")}`, bytesOf: () => null});
    map.body.append(list, explain.root);
    root.append(map.root);
    return {
      draw() {
        const node = page.node("memory");
        const told = node?.store?.describe;
        explain.draw(node);
        if (!told?.counters) return say(map.note, "No node that runs this engine has told of it yet."), false;
        say(map.note, `As of index ${count(node.store.applied)}.`);
        facts(list, [["Keys", count(told.keys)], ["Snapshots", count(told.snapshots)], ["Puts", count(told.counters.puts)], ["Deletes", count(told.counters.deletes)], ["Written by users", bytes(told.counters.user_bytes)]]);
        return false;
      },
    };
  },
};
