/* The functions of the library that a moment went through, as a tree, and the source of the one that is chosen.

   A function that changed the node says what it changed, and in which line; the first of these is opened. The sources in
   the page are those that ran: a learner's own functions, or a library with a bug in it. */

class Code {
  constructor(place, film) {
    this.film = film;
    this.tree = el("ul", {class: "tree"});
    this.source = el("div", {class: "source"});
    this.nothing = el("p", {class: "soft"}, "No function of the library acted in this step.");
    place.append(this.nothing, this.tree, this.source);
    this.tree.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.open(Number(button.dataset.function));
    });
  }

  show(moment) {
    const [calls, changed] = (moment && this.film.acts[moment[7]]) || [[], []];
    this.changed = new Map();
    for (const [number, line, field] of changed) {
      if (!this.changed.has(number)) this.changed.set(number, []);
      this.changed.get(number).push([line, field]);
    }
    const listed = calls.map(([depth, number]) => [depth, number]);
    for (const number of this.changed.keys()) if (!listed.some(([, other]) => other === number)) listed.push([2, number]);
    this.nothing.hidden = listed.length > 0;
    this.tree.replaceChildren(...listed.map(([depth, number]) => this.item(depth, number)));
    const chosen = this.changed.keys().next().value ?? (listed.length ? listed[Math.min(1, listed.length - 1)][1] : null);
    if (chosen === null) this.source.replaceChildren();
    else this.open(chosen);
  }

  item(depth, number) {
    const [path, name, first] = this.film.functions[number];
    const changed = this.changed.get(number) || [];
    const fields = [...new Set(changed.map(([line, field]) => `${field} in line ${line}`))];
    const item = el("li", {class: changed.length ? "changes" : null},
      el("button", {type: "button", "data-function": number}, name),
      el("span", {class: "where soft"}, `${path}:${changed.length ? changed[0][0] : first}`),
      fields.length ? el("span", {class: "did"}, `changes ${fields.join(", ")}`) : null);
    item.style.setProperty("--depth", String(Math.min(depth, 8) - 1));
    return item;
  }

  open(number) {
    const [path, name, first, source] = this.film.functions[number];
    const changed = new Map((this.changed.get(number) || []).map(([line, field]) => [line, field]));
    const lines = source.split("\n").map((text, offset) => {
      const line = first + offset;
      return el("span", {class: changed.has(line) ? "line hit" : "line", title: changed.has(line) ? `changes ${changed.get(line)}` : null},
        el("span", {class: "number"}, String(line)), text || " ");
    });
    const from = `${path}:${first}`;
    this.source.replaceChildren(
      el("p", {class: "from"}, el("strong", {}, name), " ", this.film.source_url ? el("a", {href: `${this.film.source_url}${path}#L${first}`}, from) : el("span", {class: "soft"}, from)),
      el("pre", {tabindex: "0", "aria-label": `source of ${name}`}, el("code", {}, lines)));
    for (const button of this.tree.querySelectorAll("button")) {
      button.setAttribute("aria-expanded", String(Number(button.dataset.function) === number));
    }
  }
}
