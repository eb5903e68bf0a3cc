/* The feeds of all nodes, and what the page knows because of them: the world.

   Each node tells about itself on GET /_/feed, as server-sent events (server/feed.py has the fields of a frame). The page
   listens to every node, so that a node which is cut off from the others is still seen, and one that died is seen to have.

       page's own node ──frame──▶ its `pages`: the URLs of the others ──▶ one EventSource for each

   What a node is, as far as it can be known here:

       connecting   nothing came yet               live      frames come
       silent       it is connected, and for SILENT_MS no frame came: paused, or its loop stands
       lost         no connection, or it has as many viewers as it takes: an EventSource doesn't say which. Tried again after
                    0.5 s, 1 s, 2 s, 4 s, and then every 4 s

   Invariants
    1. Nothing is shown that no frame said. The last frame of a node that is lost stays, and is shown as old.
    2. All is bounded: EVENTS_MAX events, REQUESTS_MAX requests and one `store` for each node, NODES_MAX nodes.
    3. A page that nobody looks at watches nothing: when the tab is hidden, the streams are closed. */

const SILENT_MS = 2000;
const RETRY_MS = 500;
const RETRY_MAX_MS = 4000;
const EVENTS_MAX = 200;
const REQUESTS_MAX = 60;
const NODES_MAX = 16;

/** One node: its URL, `state`, the last `frame`, the last `store` that wasn't null, its latest events and requests. */
class Node {
  constructor(url) {
    Object.assign(this, {url, id: null, engine: null, state: "connecting", frame: null, store: null});
    Object.assign(this, {events: [], requests: [], asked: 0, seen: 0, tries: 0, source: null, timer: 0});
  }

  /** "node 2", or where it is as long as its number isn't known. */
  get name() {
    return this.id === null ? new URL(this.url).host : `node ${this.id}`;
  }

  get live() {
    return this.state === "live";
  }

  take(frame, now) {
    this.id = frame.id;
    this.engine = frame.engine;
    this.frame = frame;
    this.store = frame.store ?? this.store;
    this.seen = now;
    this.tries = 0;
    for (const event of frame.events) this.events.push({at: now, event});
    this.events.splice(0, this.events.length - EVENTS_MAX);
    this.asked += frame.requests.length;
    for (const request of frame.requests) this.requests.push({at: now, node: this, request});
    this.requests.splice(0, this.requests.length - REQUESTS_MAX);
  }
}

/** All nodes. listen(f): f(node, frame) for each frame, and f(node, null) when a node's state changed. */
export class World {
  constructor(own) {
    this.own = own;
    this.byUrl = new Map();
    this.listeners = [];
    this.watching = false;
    this.add(own);
  }

  /** The nodes, those with a number first, by number. */
  get nodes() {
    return [...this.byUrl.values()].sort((a, b) => (a.id ?? 1e9) - (b.id ?? 1e9) || (a.url < b.url ? -1 : 1));
  }

  node(id) {
    return this.nodes.find((node) => node.id === id) ?? null;
  }

  /** The node that leads: of those that say so themselves and are heard, the one of the highest term. Null if none does. */
  get leader() {
    const leading = this.nodes.filter((node) => node.live && node.frame?.raft?.role === "leader");
    return leading.sort((a, b) => b.frame.raft.term - a.frame.raft.term)[0] ?? null;
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  /** Begins; from then on, it watches whenever the page can be seen. */
  start() {
    document.addEventListener("visibilitychange", () => this.watch(!document.hidden));
    setInterval(() => this.lookForSilence(performance.now()), SILENT_MS / 4);
    this.watch(!document.hidden);
  }

  watch(wanted) {
    if (this.watching === wanted) return;
    this.watching = wanted;
    for (const node of this.byUrl.values()) {
      if (wanted) this.open(node);
      else this.close(node);
    }
  }

  add(url) {
    if (this.byUrl.has(url) || this.byUrl.size >= NODES_MAX) return;
    const node = new Node(url);
    this.byUrl.set(url, node);
    if (this.watching) this.open(node);
  }

  open(node) {
    this.close(node);
    const source = (node.source = new EventSource(`${node.url}/_/feed`));
    source.addEventListener("frame", (message) => this.hear(node, JSON.parse(message.data)));
    source.addEventListener("open", () => (node.seen = performance.now()));
    source.addEventListener("error", () => this.lose(node, source));
  }

  close(node) {
    clearTimeout(node.timer);
    node.source?.close();
    node.source = null;
  }

  hear(node, frame) {
    node.take(frame, performance.now());
    node.state = "live";
    for (const url of frame.pages) this.add(url);
    this.tell(node, frame);
  }

  /** The browser would try again every three seconds for ever; this tries sooner at first, and the state is seen. */
  lose(node, source) {
    if (node.source !== source) return;
    this.close(node);
    this.become(node, "lost");
    node.timer = setTimeout(() => this.watching && this.open(node), Math.min(RETRY_MS << node.tries, RETRY_MAX_MS));
    node.tries = Math.min(node.tries + 1, 10);
  }

  /** A node alone in its cluster may have nothing to say; one with peers sends heartbeats, or hears them. */
  lookForSilence(now) {
    for (const node of this.byUrl.values()) {
      const alone = Object.keys(node.frame?.raft?.members ?? {}).length < 2;
      if (node.live && !alone && now - node.seen > SILENT_MS) this.become(node, "silent");
    }
  }

  become(node, state) {
    if (node.state === state) return;
    node.state = state;
    this.tell(node, null);
  }

  tell(node, frame) {
    for (const listener of this.listeners) listener(node, frame);
  }
}
