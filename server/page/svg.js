/* What every view draws with: elements, numbers in words, and the frame around a picture.

   A frame of the feed comes ten times a second. So nothing here rebuilds: `put` and `say` touch the document only where
   something changed, and `keyed` keeps an element for as long as its item is there. A view that calls them with the
   same values again costs comparisons, and no layout.

       h("p", {class: "note"}, "text")            an HTML element           s("circle", {r: 4})    an SVG one
       put(element, {width: 7})                   attributes, if changed    say(element, "text")   text, if changed
       keyed(parent, items, key, make, update)    a child for each item
       picture({...})                             a titled box: "What is this?", "The bytes", and a body
       drawing(title)                             an SVG that a screen reader reads as one sentence
       stack()                                    one bar of several parts
       new Timeline({...})                        a line over the last seconds

   Styles are classes of style.css, and what is computed is set through `element.style` or attributes: the page's
   Content-Security-Policy knows no inline style. */

const SVG = "http://www.w3.org/2000/svg";

// ---- elements -------------------------------------------------------------------------------------------------------

/** An HTML element. Attributes that begin with "on" are listeners; null and false leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Sets the attributes that have another value than the last time. */
export function put(element, attributes) {
  const last = (element.lastPut ??= {});
  for (const name in attributes) {
    if (last[name] !== attributes[name]) set(element, name, (last[name] = attributes[name]));
  }
  return element;
}

/** Sets the text, if it is another one. */
export function say(element, text) {
  if (element.lastSaid !== text) element.textContent = element.lastSaid = text;
  return element;
}

/** One child of `parent` for each item, in their order: made once for its key, updated each time, removed with its item.

    Keys must differ. The parent has no other children. O(items). */
export function keyed(parent, items, keyOf, make, update = () => {}) {
  const known = (parent.keyedChildren ??= new Map());
  const wanted = new Map(items.map((item, at) => [String(keyOf(item, at)), item]));
  for (const [key, child] of known) {
    if (!wanted.has(key)) {
      child.remove();
      known.delete(key);
    }
  }
  let place = parent.firstChild;
  let at = 0;
  for (const [key, item] of wanted) {
    let child = known.get(key);
    if (!child) known.set(key, (child = make(item, at)));
    update(child, item, at++);
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
  }
}

// ---- numbers and words ----------------------------------------------------------------------------------------------

const COUNTS = new Intl.NumberFormat("en");

/** 12345 as "12,345"; a dash for what isn't known. */
export const count = (n) => (n === null || n === undefined ? "–" : COUNTS.format(Math.round(n)));

/** "1 entry", "3 entries". */
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

/** 1536 as "1.5 KiB". */
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  if (n < 1024) return `${Math.round(n)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let at = -1;
  do n /= 1024;
  while (++at < units.length - 1 && n >= 1023.5);
  return `${n < 10 ? n.toFixed(1) : COUNTS.format(Math.round(n))} ${units[at]}`;
}

/** Milliseconds as "0.42 ms", "17 ms", "2.1 s". */
export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 1000) return `${(n / 1000).toFixed(1)} s`;
  return `${n < 1 ? n.toFixed(2) : n < 10 ? n.toFixed(1) : Math.round(n)} ms`;
}

/** 0.314 as "31%". */
export const percent = (share) => `${Math.round(share * 100)}%`;

/** True if the reader asked the system for less motion. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// ---- the frame around a picture -------------------------------------------------------------------------------------

let pictures = 0;

/** A titled box. what: two sentences; chapter: [16, "Raft: replication and commit"]; bytes: called by "The bytes", or null.

    Returns {root, body, note}: the view fills `body`, and says in `note` what the picture shows in one line. */
export function picture({id, title, what, chapter, bytes: showBytes = null}) {
  const number = ++pictures;
  const text = h("p", {class: "what", id: `what-${number}`, hidden: true}, what + " ");
  if (chapter) {
    text.append(h("span", {class: "chapter"}, `Chapter ${chapter[0]} of the tutorial builds it: ${chapter[1]}.`));
  }
  const ask = h("button", {
    type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": `what-${number}`,
    "data-testid": `${id}-what`,
    onclick: () => {
      text.hidden = !text.hidden;
      ask.setAttribute("aria-expanded", String(!text.hidden));
    },
  }, "What is this?");
  const tools = h("span", {class: "tools"}, ask);
  if (showBytes) {
    tools.append(h("button", {type: "button", class: "quiet", "data-testid": `${id}-bytes`, onclick: showBytes}, "The bytes"));
  }
  const note = h("p", {class: "note"});
  const body = h("div", {class: "body"});
  const heading = h("h2", {id: `title-${number}`}, title);
  const root = h("section", {class: "picture", "data-testid": id, "aria-labelledby": `title-${number}`},
    h("header", {}, heading, tools), text, note, body);
  return {root, body, note, heading};
}

/** What stands where a part isn't built: on a learner's own code, before its chapter. */
export function missing(what, chapter) {
  return h("p", {class: "missing"}, `${what} isn't built yet. Chapter ${chapter[0]} does: ${chapter[1]}.`);
}

/** An SVG of `width` by `height` units, which shrinks to the room that it has. `tell(sentence)` is what is read aloud. */
export function drawing(width, height, sentence = "") {
  const title = s("title", {}, sentence);
  const root = s("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", class: "drawing"}, title);
  return {root, tell: (text) => say(title, text), size: (w, h2) => put(root, {viewBox: `0 0 ${w} ${h2}`})};
}

/** One horizontal bar of parts. show([{value, kind, title}], total): kind is a class of style.css, "part-1"; parts
    of the same kind have a `key` each. */
export function stack() {
  const root = h("span", {class: "stack", role: "img"});
  const show = (parts, total = parts.reduce((sum, part) => sum + part.value, 0)) => {
    keyed(root, parts, (part) => part.key ?? part.kind, (part) => h("span", {class: `part ${part.kind}`}), (element, part) => {
      const width = total > 0 ? `${((100 * part.value) / total).toFixed(2)}%` : "0";
      if (element.lastWidth !== width) element.style.width = element.lastWidth = width;
      put(element, {class: `part ${part.kind}`, title: part.title});
    });
    put(root, {"aria-label": parts.map((part) => part.title).join(", ")});
  };
  return {root, show};
}

/** What explains the colours: legend([["part-live", "live"], ["part-dead", "dead"]]). */
export function legend(entries) {
  return h("ul", {class: "legend"}, ...entries.map(([kind, text]) => h("li", {}, h("span", {class: `swatch ${kind}`}), text)));
}

// ---- a line over time -----------------------------------------------------------------------------------------------

const WIDE = 320;
const HIGH = 72;
const POINTS_MAX = 600;
const DRAWN_MS = 250; // between two drawings of a line: it moves less than a pixel meanwhile

/** A value over the last `seconds`. add(ms, value) when it is known, draw(ms) when it is to be seen; 600 points at most. */
export class Timeline {
  constructor({title, seconds = 60, show = count, from = 0}) {
    Object.assign(this, {title, seconds, show, from, points: [], drawnTo: -Infinity});
    this.line = s("path", {class: "line"});
    this.area = s("path", {class: "area"});
    this.highest = h("span");
    this.now = h("span", {class: "now"});
    this.picture = drawing(WIDE, HIGH, title);
    put(this.picture.root, {preserveAspectRatio: "none"});
    this.picture.root.append(s("line", {class: "axis", x1: 0, x2: WIDE, y1: HIGH - 0.5, y2: HIGH - 0.5}), this.area, this.line);
    this.root = h("div", {class: "timeline"},
      h("p", {class: "timeline-head"}, h("span", {}, title), this.now), this.picture.root,
      h("p", {class: "timeline-foot"}, h("span", {}, `${seconds} s ago`), this.highest, h("span", {}, "now")));
  }

  add(at, value) {
    const last = this.points.at(-1);
    if (value === null || value === undefined || (last && at <= last[0])) return;
    this.points.push([at, value]);
    if (this.points.length > POINTS_MAX || this.points[0][0] < at - 2000 * this.seconds) this.points.shift();
  }

  draw() {
    const end = this.points.at(-1)?.[0];
    if (end === undefined || end < this.drawnTo + DRAWN_MS) return;
    this.drawnTo = end;
    const begin = end - 1000 * this.seconds;
    const points = this.points.filter(([at]) => at >= begin);
    const high = Math.max(...points.map(([, value]) => value), this.from + 1e-9);
    const x = (at) => (((at - begin) / (1000 * this.seconds)) * WIDE).toFixed(1);
    const y = (value) => (HIGH - 1 - ((value - this.from) / (high - this.from)) * (HIGH - 8)).toFixed(1);
    const path = points.map(([at, value], n) => `${n ? "L" : "M"}${x(at)} ${y(value)}`).join("");
    put(this.line, {d: path});
    put(this.area, {d: `${path}L${WIDE} ${HIGH}L${x(points[0][0])} ${HIGH}Z`});
    const latest = this.show(points.at(-1)[1]);
    say(this.now, latest);
    say(this.highest, `highest ${this.show(high)}`);
    this.picture.tell(`${this.title}: ${latest} now, at most ${this.show(high)} in the last ${this.seconds} seconds`);
  }
}
