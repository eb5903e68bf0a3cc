/* The panel beside every view: put, get, delete, and a burst of writes.

   Everything goes through the page's own node, as a client's requests do (server/routes.py): the same answers, the same
   limits. A browser has six connections to a host and one of them is the feed's, so a burst has AT_ONCE_MAX requests on
   their way, and is no measure of the server: `tests/bench/http_load.py` is.

   Invariants
    1. Bounded: at most WRITES_MAX writes of VALUE_MAX bytes; the latencies kept are of the last KEPT.
    2. A burst ends: when all is done, when it is stopped, or after FAILED_MAX failures in a row, and it says which. */

import {count, h, ms, percent, plural, put, say} from "./svg.js";

const WRITES_MAX = 200_000;
const VALUE_MAX = 64 << 10;
const AT_ONCE_MAX = 4;
const FAILED_MAX = 20;
const PAUSE_MS = 250; // after a failure: an election takes longer than that
const KEPT = 5000;
const SHOWN_MAX = 200;

/** The share of each operation, in percent. */
const MIXES = {
  puts: {words: "puts", put: 100},
  deletes: {words: "4 puts to 1 delete", put: 80, delete: 20},
  reads: {words: "1 put to 1 get", put: 50, get: 50},
  gets: {words: "gets", get: 100},
};

export const panel = {
  id: "write",
  mount(root, page) {
    root.setAttribute("data-testid", "write");
    const one = single(page);
    const many = burst(page);
    root.append(h("h2", {}, "Write"), one.root, many.root);
    return {draw: () => one.draw()};
  },
};

const path = (key) => "/" + key.split("/").map(encodeURIComponent).join("/");

/** One request. Returns {ok, status, answer, took}; never throws. */
async function ask(method, key, body, signal) {
  const begun = performance.now();
  try {
    const answer = await fetch(path(key), {method, body, signal, cache: "no-store"});
    const content = new Uint8Array(await answer.arrayBuffer());
    return {ok: answer.ok, status: answer.status, index: answer.headers.get("X-Metcd-Index"), content, took: performance.now() - begun};
  } catch (error) {
    return {ok: false, status: 0, content: new Uint8Array(), took: performance.now() - begun, why: error.name === "AbortError" ? "stopped" : "the node can't be reached"};
  }
}

const shown = (content) => new TextDecoder().decode(content.subarray(0, SHOWN_MAX)) + (content.length > SHOWN_MAX ? "…" : "");

/** The sentence of an answer that isn't the asked-for one. */
function refusal({status, content, why}) {
  if (why) return why;
  try {
    return JSON.parse(new TextDecoder().decode(content)).error;
  } catch {
    return `status ${status}`;
  }
}

// ---- one key --------------------------------------------------------------------------------------------------------

function single(page) {
  const key = h("input", {id: "write-key", name: "key", value: "hello", autocomplete: "off", spellcheck: "false", "data-testid": "write-key"});
  const value = h("input", {id: "write-value", name: "value", value: "world", autocomplete: "off", spellcheck: "false", "data-testid": "write-value"});
  const answer = h("p", {class: "answer", role: "status", "data-testid": "write-answer"});
  const where = h("p", {class: "note"});
  const act = async (method) => {
    if (!key.value) return tell(false, "A key has at least one character.");
    const got = await ask(method, key.value, method === "PUT" ? value.value : undefined);
    const took = ` (${ms(got.took)})`;
    if (method === "GET" && got.status === 404) return tell(true, `There is no key ${key.value}.${took}`);
    if (!got.ok) return tell(false, refusal(got) + took);
    if (method === "GET") return tell(true, `${key.value} is “${shown(got.content)}”, ${plural(got.content.length, "byte")}.${took}`);
    return tell(true, `${method === "PUT" ? "Written" : "Deleted"}${got.index ? ` as entry ${count(got.index)}` : ""}.${took}`);
  };
  const tell = (good, sentence) => {
    put(answer, {class: good ? "answer" : "answer bad"});
    say(answer, sentence);
  };
  const button = (method, text, main) => h("button", {type: main ? "submit" : "button", class: main ? "main" : "", "data-testid": `write-${text.toLowerCase()}`,
    onclick: main ? () => {} : () => act(method)}, text);
  const form = h("form", {class: "fields", onsubmit: (event) => (event.preventDefault(), act("PUT"))},
    h("div", {class: "pair"}, h("div", {}, h("label", {for: "write-key"}, "key"), key), h("div", {}, h("label", {for: "write-value"}, "value"), value)),
    h("div", {class: "buttons"}, button("PUT", "Put", true), button("GET", "Get"), button("DELETE", "Delete")), answer);
  return {
    root: h("div", {}, where, form),
    draw: () => {
      const own = page.world.byUrl.get(page.world.own);
      say(where, `Through ${own.name}, which this page is from.`);
    },
  };
}

// ---- many -----------------------------------------------------------------------------------------------------------

function field(name, label, control) {
  control.id = `burst-${name}`;
  control.dataset.testid = `burst-${name}`;
  return h("div", {}, h("label", {for: control.id}, label), control);
}

const number = (value, most) => h("input", {type: "number", min: 1, max: most, value, inputmode: "numeric", required: true});
const choice = (options) => h("select", {}, ...Object.entries(options).map(([value, text]) => h("option", {value}, text)));

function burst(page) {
  const [writes, keys, size, atOnce] = [number(2000, WRITES_MAX), number(1000, WRITES_MAX), number(100, VALUE_MAX), number(4, AT_ONCE_MAX)];
  const mix = choice(Object.fromEntries(Object.entries(MIXES).map(([name, {words}]) => [name, words])));
  const order = choice({random: "at random", ascending: "in key order, over and over"});
  const start = h("button", {type: "submit", class: "main", "data-testid": "burst-start"}, "Start");
  const stop = h("button", {type: "button", class: "danger", hidden: true, "data-testid": "burst-stop", onclick: () => running.abort()}, "Stop");
  const progress = h("progress", {max: 1, value: 0, hidden: true, "aria-label": "The burst's progress"});
  const told = h("p", {class: "answer", role: "status", "data-testid": "burst-told"});
  let running = null;
  const begin = async (event) => {
    event.preventDefault();
    running = new AbortController();
    [start.hidden, stop.hidden, progress.hidden] = [true, false, false];
    stop.focus();
    const run = new Burst({writes: +writes.value, keys: +keys.value, size: +size.value, mix: MIXES[mix.value], ascending: order.value === "ascending"}, running.signal);
    const watch = setInterval(() => (say(told, run.words()), (progress.value = run.done / run.writes)), 250);
    const why = await run.go(+atOnce.value);
    clearInterval(watch);
    [start.hidden, stop.hidden, progress.hidden] = [false, true, true];
    if (document.activeElement === document.body) start.focus();
    put(told, {class: run.failed ? "answer bad" : "answer"});
    say(told, `${why} ${run.words()}`);
    page.tell(why);
  };
  const root = h("details", {class: "burst", open: true}, h("summary", {}, "A burst"), h("form", {class: "fields", onsubmit: begin},
    h("div", {class: "pair"}, field("writes", "requests", writes), field("at-once", "at a time", atOnce)),
    h("div", {class: "pair"}, field("keys", "on so many keys", keys), field("size", "bytes a value", size)),
    field("mix", "of which", mix), field("order", "keys are chosen", order),
    h("div", {class: "buttons"}, start, stop), progress, told));
  return {root};
}

class Burst {
  constructor(told, signal) {
    Object.assign(this, told, {signal, done: 0, sent: 0, failed: 0, inARow: 0, took: [], why: "", begun: performance.now()});
  }

  /** Sends all of it, so many at a time. Returns why it ended, as a sentence. */
  async go(atOnce) {
    await Promise.all(Array.from({length: Math.min(atOnce, AT_ONCE_MAX)}, () => this.work()));
    this.ended = performance.now();
    if (this.signal.aborted) return "Stopped.";
    return this.inARow >= FAILED_MAX ? `Given up after ${FAILED_MAX} failures in a row: ${this.why}` : "Done.";
  }

  async work() {
    while (this.sent < this.writes && !this.signal.aborted && this.inARow < FAILED_MAX) {
      const at = this.sent++;
      const [method, key] = [this.method(), this.key(at)];
      const got = await ask(method, key, method === "PUT" ? this.value(at) : undefined, this.signal);
      if (this.signal.aborted) return;
      this.done++;
      if (got.ok || (got.status === 404 && method === "GET")) {
        this.inARow = 0;
        this.took[this.done % KEPT] = got.took;
      } else {
        this.failed++;
        this.inARow++;
        this.why = refusal(got);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  method() {
    const drawn = Math.random() * 100;
    if (drawn < (this.mix.put ?? 0)) return "PUT";
    return drawn < (this.mix.put ?? 0) + (this.mix.delete ?? 0) ? "DELETE" : "GET";
  }

  key(at) {
    const n = this.ascending ? at % this.keys : Math.floor(Math.random() * this.keys);
    return `burst/${String(n).padStart(6, "0")}`;
  }

  value(at) {
    return `${at} `.padEnd(this.size, "abcdefghijklmnopqrstuvwxyz").slice(0, this.size);
  }

  words() {
    const passed = ((this.ended ?? performance.now()) - this.begun) / 1000;
    const took = this.took.filter((each) => each !== undefined).sort((a, b) => a - b);
    const within = (share) => ms(took[Math.min(took.length - 1, Math.floor(took.length * share))]);
    const rate = passed > 0 ? `${count(this.done / passed)} a second` : "";
    const failed = this.failed ? `, ${count(this.failed)} failed (${this.why})` : "";
    return `${count(this.done)} of ${count(this.writes)} (${percent(this.done / this.writes)}), ${rate}; half within ${within(0.5)}, 99% within ${within(0.99)}${failed}.`;
  }
}
