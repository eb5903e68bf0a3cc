/* What a get of one key touches, step by step: the part that the engines' views share.

       key [ user/42        ]  (Explain)       a value of 128 bytes, found after 3 places

       1  memtable                 not here
       2  table 19 of level 0      denied by its filter
       3  table 11 of level 1      block 3 (4.1 KiB at byte 12,243) was read: a value                      The bytes

   The steps come from the engine itself: GET /_/explain?key= (engines/telling.py has the form). As long as a key is watched,
   it is asked again when the node has applied something, ASK_MS apart; so a put of the key shows what it changed.

   The view gives `words(step)`, which names a step's place, and `bytesOf(step)`: {file, find} or null, where its bytes lie.
   It reads `latest` and `previous` (another explanation of the same key, before something changed), to mark them in its own
   picture; `onNews` is called when there is another one. */

import {bytes, h, keyed, plural, put, s, say} from "./svg.js";

const ASK_MS = 500;

export class Explain {
  constructor(page, {engine, words, bytesOf, onNews = () => {}}) {
    Object.assign(this, {page, engine, words, bytesOf, onNews, latest: null, previous: null, watched: null, asked: 0});
    this.input = h("input", {type: "text", id: `explain-key-${engine}`, "data-testid": "explain-key", autocomplete: "off", spellcheck: "false", maxlength: 500});
    this.answer = h("p", {class: "explain-answer", role: "status", "data-testid": "explain-answer"}, "Type a key, and see what reading it costs.");
    this.steps = h("ol", {class: "steps", "data-testid": "explain-steps"});
    this.root = h("div", {class: "explain"},
      h("form", {class: "explain-form", onsubmit: (event) => (event.preventDefault(), this.watch(this.input.value))},
        h("label", {for: `explain-key-${engine}`}, "A key"), this.input, h("button", {type: "submit", class: "main", "data-testid": "explain-go"}, "Explain a get")),
      this.answer, this.steps);
  }

  /** Asks for this key now, and again whenever something was applied. "" ends it. */
  watch(key) {
    Object.assign(this, {watched: key || null, latest: null, previous: null, applied: null});
    if (key) this.ask(this.page.node(this.engine));
    else this.show(null);
  }

  /** For a view's draw(): asks again if the node has applied something since. */
  draw(node) {
    const applied = node?.store?.applied;
    if (this.watched === null || !node || this.asking) return;
    if (node.id !== this.of || (applied !== this.applied && performance.now() - this.asked >= ASK_MS)) this.ask(node);
  }

  async ask(node) {
    if (!node) return;
    if (node.id !== this.of) this.latest = this.previous = null;
    const key = this.watched;
    Object.assign(this, {asking: true, of: node.id, applied: node.store?.applied, asked: performance.now()});
    try {
      const response = await fetch(`${node.url}/_/explain?key=${encodeURIComponent(key)}`, {signal: AbortSignal.timeout(5000)});
      const told = await response.json();
      if (key !== this.watched) return;
      if (response.ok) this.take(told.explain ?? null, told.sentence);
      else this.show(null, told.error);
    } catch {
      if (key === this.watched) this.show(null, `${node.name} didn't answer.`);
    } finally {
      this.asking = false;
    }
  }

  take(told, sentence) {
    if (this.latest && told && JSON.stringify(told.steps) !== JSON.stringify(this.latest.steps)) this.previous = this.latest;
    this.latest = told;
    this.show(told, sentence);
  }

  show(told, sentence = "Type a key, and see what reading it costs.") {
    const steps = told?.steps ?? [];
    const asked = steps.filter((step) => !step.result.startsWith("not asked")).length;
    const answer = told === null ? sentence : told.found
      ? `A value of ${bytes(told.value_bytes)}, found after ${plural(asked, "step")}.`
      : `No such key: known after ${plural(asked, "step")}.`;
    say(this.answer, answer + (told && !told.told ? " This engine doesn't tell what a get touches." : ""));
    keyed(this.steps, steps, (step, at) => at, () => h("li", {}, h("b"), h("span", {class: "result"}), h("button", {type: "button", class: "quiet"}, "The bytes")), (item, step) => {
      const [place, result, button] = item.children;
      const at = this.bytesOf(step);
      say(place, this.words(step));
      say(result, step.result);
      put(item, {"data-verdict": verdict(step)});
      button.hidden = at === null;
      button.onclick = () => this.page.go("bytes", {node: this.of, ...at});
      put(button, {"aria-label": `The bytes of ${this.words(step)}`});
    });
    this.onNews();
    this.page.wake();
  }
}

/** What a step came to, for its colour and its mark: found, gone, denied, none, skipped, or passed. */
export function verdict(step) {
  if (step.result.startsWith("a value")) return "found";
  if (step.result.startsWith("a tombstone")) return "gone";
  if (step.result.startsWith("denied")) return "denied";
  if (step.result.startsWith("not asked")) return "skipped";
  if (step.result.startsWith("not") || step.result.startsWith("its keys") || step.result.startsWith("no ")) return "none";
  return "passed";
}

/** A user's key as the state machine keeps it in the engine: "k" and the key; what begins with "m" is its own. */
export const keyWords = (key) => (key === undefined || key === "" ? "–" : key[0] === "k" ? key.slice(1) || "(empty)" : `its own: ${key.slice(1)}`);

/** A list of name and value, as the pictures head themselves with: facts(list, [["Keys", "12"], …]). */
export function facts(list, entries) {
  keyed(list, entries, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd")), (item, [name, value, id]) => {
    say(item.lastChild, value);
    put(item.lastChild, {"data-testid": id ?? `fact-${name.toLowerCase().replaceAll(" ", "-")}`});
  });
}

/** A bar that fills: gauge().show(value, most, sentence, kind). */
export function gauge() {
  const fill = h("span", {class: "gauge-fill"});
  const root = h("span", {class: "gauge", role: "img"}, fill);
  const show = (value, most, sentence, kind = "part-1") => {
    const width = `${Math.min(100, (100 * value) / Math.max(1e-9, most)).toFixed(1)}%`;
    if (fill.lastWidth !== width) fill.style.width = fill.lastWidth = width;
    put(fill, {class: `gauge-fill ${kind}`});
    put(root, {"aria-label": sentence});
  };
  return {root, show};
}

/** A sign for work that is running, hidden while there is none: sign.show(sentence or null, share done or null). */
export function running(id) {
  const words = h("p");
  const bar = gauge();
  put(bar.root, {role: null, "aria-hidden": "true"}); // the words say it
  const root = h("div", {class: "running", "data-testid": id, hidden: true}, s("svg", {viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true"}, s("circle", {cx: 8, cy: 8, r: 6})), words, bar.root);
  const show = (sentence, share = null) => {
    if (root.hidden !== (sentence === null)) root.hidden = sentence === null;
    if (sentence === null) return;
    say(words, sentence);
    bar.root.hidden = share === null;
    if (share !== null) bar.show(share, 1, sentence, "part-3");
  };
  return {root, show};
}

/** The button that fetches what a sketch has summed up: the whole description, kept until another one is asked for.

    show(node, sentence): offers it, or what leads back; hidden for a sentence of null. `told` is the description, or null. */
export class Whole {
  constructor(page, id) {
    Object.assign(this, {page, told: null, applied: null});
    this.root = h("button", {type: "button", class: "quiet", "data-testid": id, hidden: true, onclick: () => (this.told ? this.forget() : this.fetch())});
  }

  show(node, sentence) {
    if (node.id !== this.of) Object.assign(this, {of: node.id, told: null});
    Object.assign(this, {node, sentence});
    const hidden = sentence === null && this.told === null;
    if (this.root.hidden !== hidden) this.root.hidden = hidden;
    say(this.root, this.told ? "Back to the summary, which goes on" : sentence ?? "");
  }

  forget() {
    this.told = null;
    this.page.wake();
  }

  async fetch() {
    const {node} = this;
    const response = await fetch(`${node.url}/_/describe`, {signal: AbortSignal.timeout(15_000)}).catch(() => null);
    if (!response?.ok) return this.page.tell(`${node.name} didn't tell the whole.`);
    const told = await response.json();
    if (node.id === this.of) Object.assign(this, {told: told.describe, applied: told.applied});
    this.page.wake();
  }
}
