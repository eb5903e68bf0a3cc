/* The last requests, and where their time went; Raft's log on the disk, and its fsyncs.

       PUT  user/17   204   node 1   3.1 ms   ▓▓▓░░░░░████████▒▒▒▒▒▒
                                              queue persist replicate apply answer

   The parts are those of server/timings.py, as the node that was asked measured them:

       queue       until the node's thread took it          persist     until it was synced in this node's log
       replicate   until most nodes had it                  apply       until the engine had it
       answer      until the answer was written             rest        what none of these is

   A node tells of at most 20 requests in each frame, so under load these are samples. The list stands still while the
   pointer or the focus is in it, so that it can be read. */

import {Timeline, bytes, count, h, keyed, legend, ms, picture, plural, put, say, stack} from "./svg.js";

const SHOWN_MAX = 20;
const PARTS = ["queue", "persist", "replicate", "apply", "answer", "rest"];
const RATE_MS = 1000;

export const view = {
  id: "requests",
  title: "Requests",
  mount(root, page) {
    const requests = requestsPicture(page);
    const disk = diskPicture(page);
    root.append(requests.root, disk.root);
    const listener = (node, frame) => frame && disk.take(node);
    page.on("frame", listener);
    return {
      draw(now) {
        requests.draw(now);
        disk.draw();
      },
      close: () => page.off("frame", listener),
    };
  },
};

// ---- requests -------------------------------------------------------------------------------------------------------

function requestsPicture(page) {
  const box = picture({
    id: "requests", title: "Where the time went", chapter: [18, "A replicated store"],
    what: "Each line is a request that a node answered, with the time that it took, and what the node waited for meanwhile. "
      + "A put waits for an fsync on its own disk and on most of the others, and that is nearly all of its time.",
  });
  const order = h("select", {"aria-label": "Which requests", "data-testid": "requests-order", onchange: () => page.wake()},
    h("option", {value: "newest"}, "newest first"), h("option", {value: "slowest"}, "slowest first"));
  const list = h("ol", {class: "requests"});
  const held = h("span", {class: "held"});
  box.body.append(h("p", {class: "bar"}, order, held), list, legend(PARTS.map((part, n) => [n < 5 ? `part-${n + 1}` : "free", part])));
  const rows = [];
  const reads = () => list.matches(":hover") || list.contains(document.activeElement);
  let drawn = null;
  const draw = () => {
    const version = [order.value, reads(), ...page.world.nodes.map((node) => node.asked)].join();
    if (version === drawn) return;
    drawn = version;
    const known = page.world.nodes.flatMap((node) => node.requests).reverse(); // those of a frame have the same time
    say(box.note, summary(known));
    say(held, reads() ? "The list stands still while you are in it." : "");
    if (reads()) return;
    const sorted = order.value === "slowest" ? known.sort((a, b) => b.request[3] - a.request[3]) : known.sort((a, b) => b.at - a.at);
    const shown = sorted.slice(0, SHOWN_MAX);
    const most = Math.max(...shown.map(({request}) => request[3]), 0.001);
    keyed(list, shown, (_, n) => n, (_, n) => (rows[n] = requestRow()).root, (_, one, n) => rows[n].show(one, most));
  };
  return {root: box.root, draw};
}

/** A line of the list; it is used again for whatever request comes to stand there. */
function requestRow() {
  const bar = stack();
  const [method, key, status, where, took] = ["method", "key", "code", "where", "took"].map((name) => h("span", {class: name}));
  const room = h("span", {class: "room"}, bar.root);
  const root = h("li", {tabindex: 0}, method, key, status, where, took, room);
  const show = ({request: [verb, name, code, total, parts], node}, most) => {
    say(method, verb);
    say(key, name);
    say(status, String(code));
    say(where, node.name);
    say(took, ms(total));
    put(root, {"data-bad": code >= 400 && code !== 404 ? "" : null});
    const known = PARTS.slice(0, 5).filter((part) => parts[part] > 0);
    const rest = Math.max(0, total - known.reduce((sum, part) => sum + parts[part], 0));
    bar.show([
      ...known.map((part) => ({kind: `part-${PARTS.indexOf(part) + 1}`, value: parts[part], title: `${part} ${ms(parts[part])}`})),
      {kind: "free", value: rest, title: `rest ${ms(rest)}`},
    ]);
    const width = `${Math.max(1, (100 * total) / most).toFixed(1)}%`;
    if (bar.root.lastWidth !== width) bar.root.style.width = bar.root.lastWidth = width;
  };
  return {root, show};
}

function summary(known) {
  const writes = known.map(({request}) => request).filter(([verb, , code]) => ["PUT", "DELETE", "POST"].includes(verb) && code < 400);
  if (!known.length) return "No request yet: make one in the panel, or with curl.";
  const half = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  if (!writes.length) return `${plural(known.length, "request")}; half of them took ${ms(half(known.map(({request}) => request[3])))} or less.`;
  const parts = PARTS.slice(0, 4).map((part) => `${part} ${ms(half(writes.map((request) => request[4][part] ?? 0)))}`);
  return `Of the last ${plural(writes.length, "write")}, half took ${ms(half(writes.map((request) => request[3])))} or less: ${parts.join(", ")}.`;
}

// ---- the log on the disk --------------------------------------------------------------------------------------------

function diskPicture(page) {
  const box = picture({
    id: "wal", title: "Raft's log on the disk", chapter: [17, "Raft on disk"],
    what: "Each node writes its log into segments, one file after the other, and syncs it before it acknowledges anything; one fsync "
      + "may cover many entries. Segments whose entries are all in a snapshot are deleted.",
  });
  const list = h("div", {class: "columns"});
  box.body.append(list);
  const nodes = new Map();
  const take = (node) => {
    if (!nodes.has(node.url)) nodes.set(node.url, nodeDisk(page, node));
    nodes.get(node.url).take(node);
  };
  page.world.nodes.filter((node) => node.frame).forEach(take);
  const draw = () => {
    const known = page.world.nodes.filter((node) => nodes.has(node.url));
    keyed(list, known, (node) => node.url, (node) => nodes.get(node.url).root, (_, node) => nodes.get(node.url).draw(node));
    const sum = known.reduce((total, node) => total + (node.frame.wal?.segments ?? []).reduce((size, [, n]) => size + n, 0), 0);
    say(box.note, `${bytes(sum)} in the logs of ${plural(known.length, "node")}.`);
  };
  return {root: box.root, draw, take};
}

function nodeDisk(page, node) {
  const bar = stack();
  const title = h("h3");
  const words = h("p", {class: "note"});
  const show = h("button", {type: "button", class: "quiet", onclick: () => {
    const segment = node.frame.wal?.segments?.at(-1);
    if (segment) page.bytes(node, `wal/${segment[0]}`);
  }}, "The bytes of the last one");
  const syncs = new Timeline({title: "fsyncs a second", seconds: 30});
  const root = h("div", {"data-testid": `wal-${node.id}`}, title, words, bar.root, syncs.root, show);
  const past = [];
  const take = ({frame: {now_ms: at, wal}}) => {
    if (!wal) return;
    past.push([at, wal.fsyncs]);
    while (past.length > 2 && past[1][0] <= at - RATE_MS) past.shift();
    const [before, then] = past[0];
    if (at >= before + RATE_MS / 2) syncs.add(at, Math.max(0, ((wal.fsyncs - then) * 1000) / (at - before)));
  };
  const draw = ({name, frame: {wal}}) => {
    say(title, name);
    if (!wal) return;
    const last = wal.segments.length - 1;
    say(words, `${plural(wal.segments.length, "segment")}, ${bytes(wal.segments.reduce((sum, [, n]) => sum + n, 0))}; ${plural(wal.fsyncs, "fsync")} since the start.`);
    bar.show(wal.segments.map(([file, size], n) => ({key: file, kind: n === last ? "part-1" : "free", value: Math.max(1, size), title: `${file}, ${bytes(size)}`})));
    syncs.draw();
  };
  return {root, take, draw};
}
