/* The page: which view is seen, which node is chosen, and when something is drawn.

       stream.js ──frames──▶ world ──▶ the view that is seen, once for each animation frame in which there is news
                                  └──▶ the nodes' chips in the header, the side panel

   A view is a module of this folder that exports `view`:

       export const view = {
         id: "log", title: "Log",          the part of the address after "#", and the tab's text
         engine: "lsm",                    only for an engine's view: its tab is there while a node runs that engine
         mount(root, page) {…}             fills `root` (empty), and returns {draw(now), close()}
       };

   draw(now) is called when frames came, ten times a second at most, and when the size or the choice changed; if it returns
   true, also in the next animation frame, for what moves. It changes the document through svg.js, which touches only what changed. close() is
   called when another view is shown; it may be missing. A panel has the same form; it stands beside every view.

   `page` is what they all share:

       world               all nodes and their last frames (stream.js)
       node(engine)        the chosen node; if an engine is named and the chosen one has another: the first that runs it
       choose(id)          chooses a node                    go(id, params)   shows a view: #log?node=2
       params              of the address, strings           bytes(node, "wal/F", at)   shows a file's bytes (bytes.js)
       tell(sentence)      says it in the status line, which screen readers read        wake()   draws soon
       on(name, f), off, emit(name, ...)   for what modules say to each other:
            "frame" (node, frame or null), "node" (id) and "link" (a, b) when one is clicked in the cluster's picture
       faults              what the lab did, drawn by cluster.js: {cut: Set of "1-2" or "1>2", paused: Set, dead: Set}
       lab                 null, or lab.js's: then the cluster's nodes and links can be clicked

   Invariants
    1. No view but the one that is seen costs anything, and a hidden tab watches nothing.
    2. The address says what is seen: going back, a reload and a bookmark lead to the same view. */

import {view as bitcask} from "./bitcask.js";
import {view as btree} from "./btree.js";
import {view as bytes} from "./bytes.js";
import {view as cluster} from "./cluster.js";
import {panel as lab} from "./lab.js"; // takes its key out of the address before `route` reads it
import {view as log} from "./log.js";
import {view as lsm} from "./lsm.js";
import {view as memory} from "./memory.js";
import {view as requests} from "./requests.js";
import {World} from "./stream.js";
import {panel as missing} from "./missing.js";
import {count, h, keyed, put, say} from "./svg.js";
import {panel as write} from "./write.js";

const VIEWS = [
  cluster,
  log,
  requests,
  lsm,
  btree,
  bitcask,
  memory,
  bytes,
];
const PANELS = [
  missing,
  lab,
  write,
];

const DRAW_MS = 100;

const find = (id) => document.getElementById(id);
const main = find("main");
const world = new World(location.origin);
const listeners = {};
let seen = null; // {view, drawn}
let panels = [];
let chosen = null;
let due = false;
let later = null;
let drawnAt = 0;

const page = {
  world,
  lab: null,
  params: {},
  faults: {cut: new Set(), paused: new Set(), dead: new Set()},
  node(engine = null) {
    const fits = (node) => node !== null && node.id !== null && (engine === null || node.engine === engine);
    const nodes = [world.node(chosen), world.byUrl.get(world.own), ...world.nodes];
    return nodes.find(fits) ?? null;
  },
  choose(id) {
    chosen = id;
    if (page.params.node) page.go(seen.view.id, {node: id}); // or the address would choose the earlier one again
    page.emit("choice", id);
    wake();
  },
  go(id, params = {}) {
    const query = new URLSearchParams(params).toString();
    location.hash = query ? `${id}?${query}` : id;
  },
  bytes(node, file, at = 0) {
    page.go("bytes", {node: node.id, file, at});
  },
  tell(sentence) {
    say(find("status"), sentence);
  },
  on(name, listener) {
    (listeners[name] ??= []).push(listener);
  },
  off(name, listener) {
    listeners[name] = listeners[name].filter((each) => each !== listener);
  },
  emit(name, ...told) {
    for (const listener of listeners[name] ?? []) listener(...told);
  },
  wake,
};

// ---- the views ------------------------------------------------------------------------------------------------------

/** Shows the view that the address names; the first one, if there is no such view. */
function route() {
  const [id, query = ""] = location.hash.slice(1).split("?");
  const view = VIEWS.find((known) => known.id === id) ?? VIEWS[0];
  page.params = Object.fromEntries(new URLSearchParams(query));
  if (page.params.node) chosen = Number(page.params.node);
  if (seen?.view !== view) {
    seen?.drawn.close?.();
    main.replaceChildren();
    const root = h("div", {class: "view", "data-testid": `view-${view.id}`});
    main.append(root);
    seen = {view, drawn: view.mount(root, page)};
    put(main, {"aria-labelledby": `tab-${view.id}`});
    document.title = `${view.title} · metcd`;
  }
  page.emit("route", view.id);
  drawTabs();
  wake();
}

function drawTabs() {
  const engines = new Set(world.nodes.map((node) => node.engine));
  const offered = VIEWS.filter((view) => !view.engine || engines.has(view.engine) || view === seen.view);
  keyed(find("tabs"), offered, (view) => view.id, (view) => h("a", {
    role: "tab", id: `tab-${view.id}`, href: `#${view.id}`, "data-testid": `tab-${view.id}`, "aria-controls": "main",
  }, view.title), (tab, view) => {
    const selected = view === seen.view;
    put(tab, {"aria-selected": String(selected), tabindex: selected ? 0 : -1});
  });
}

/** Arrows, Home and End go from tab to tab, as screen readers announce. */
function onTabKey(event) {
  const tabs = [...find("tabs").children];
  const at = tabs.indexOf(document.activeElement);
  const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1}[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  location.hash = tab.hash;
  tab.focus();
}

// ---- the header -----------------------------------------------------------------------------------------------------

/** One word for what a node is now: its role if it is heard, and what is wrong if not. */
function standing(node) {
  if (!node.live) return {connecting: "connecting", silent: "silent", lost: "no connection"}[node.state];
  return node.frame.raft?.role ?? "running";
}

function drawNodes() {
  keyed(find("nodes"), world.nodes, (node) => node.url, (node) => h("li", {}, h("button", {
    type: "button", class: "chip", "data-testid": `node-${new URL(node.url).port}`, onclick: () => page.choose(node.id),
  }, h("span", {class: "dot", "aria-hidden": "true"}), h("b"), h("span", {class: "what-node"}), h("span", {class: "term"}))), (item, node) => {
    const [, name, kind, term] = item.firstChild.children;
    const word = standing(node);
    put(item.firstChild, {"aria-pressed": String(node === page.node()), "data-standing": node.live ? word : node.state, disabled: node.id === null});
    say(name, node.name);
    say(kind, [node.engine, word].filter(Boolean).join(" · "));
    say(term, node.frame?.raft ? `term ${count(node.frame.raft.term)}` : "");
  });
}

/** The status line tells of what changes seldom: who leads, and which node was lost. */
let toldLeader = null;

function tellNews() {
  const leader = world.leader;
  const now = leader && `${leader.id} ${leader.frame.raft.term}`;
  if (now && now !== toldLeader) {
    page.tell(`Node ${leader.id} leads in term ${count(leader.frame.raft.term)}.`);
    toldLeader = now;
  }
}

// ---- drawing --------------------------------------------------------------------------------------------------------

/** Draws in the next animation frame. */
function wake() {
  if (due || document.hidden) return;
  due = true;
  requestAnimationFrame(draw);
}

/** Draws when DRAW_MS have passed since the last time: the frames of all nodes that come meanwhile are drawn at once. */
function wakeLater() {
  if (later || due) return;
  later = setTimeout(() => {
    later = null;
    wake();
  }, Math.max(0, drawnAt + DRAW_MS - performance.now()));
}

let drawnVersion = "";

function draw(now) {
  due = false;
  drawnAt = now;
  drawNodes();
  const version = world.nodes.map((node) => node.engine).join();
  if (version !== drawnVersion) {
    drawnVersion = version;
    drawTabs();
  }
  const moving = [seen.drawn, ...panels].map((drawn) => drawn.draw(now));
  if (moving.includes(true)) wake();
}

world.listen((node, frame) => {
  tellNews();
  if (frame === null && node.state !== "connecting") page.tell(`${node.name}: ${standing(node)}.`);
  page.emit("frame", node, frame);
  wakeLater();
});

panels = PANELS.map((panel) => {
  const root = h("div", {class: "panel"});
  find("side").append(root);
  return panel.mount(root, page);
});
find("tabs").addEventListener("keydown", onTabKey);
find("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is seen, and nothing else
  main.focus();
});
addEventListener("hashchange", route);
addEventListener("resize", wake);
document.addEventListener("visibilitychange", wake);
route();
world.start();
