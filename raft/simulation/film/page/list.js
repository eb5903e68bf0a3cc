/* The list of steps: only the rows that are seen exist, so 20,000 steps scroll like 20.

   A listbox for a keyboard and a screen reader: the list has the focus, `aria-activedescendant` says which row is
   chosen, and each row says its place and how many there are. */

const ROW = 30;

class StepList {
  constructor(place, choose) {
    this.choose = choose;
    this.inner = el("div", {class: "rows"});
    this.box = el("div", {class: "scroll", tabindex: "0", role: "listbox", "aria-label": "steps of the run"}, this.inner);
    place.append(this.box);
    this.rows = new Map();
    this.view = [];
    this.box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    this.inner.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) this.choose(Number(row.dataset.place));
    });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /* Another run, or other steps of it. */
  open(run, view) {
    this.run = run;
    this.view = view;
    this.rows.clear();
    this.inner.replaceChildren();
    this.inner.style.height = `${view.length * ROW}px`;
  }

  show(position) {
    this.position = position;
    const top = position * ROW;
    const height = this.box.clientHeight;
    if (top < this.box.scrollTop + ROW || top > this.box.scrollTop + height - 2 * ROW) {
      this.box.scrollTop = top - height / 2;
    }
    this.draw();
  }

  draw() {
    if (!this.run) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 4);
    const last = Math.min(this.view.length - 1, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + 4);
    for (const [position, row] of this.rows) {
      if (position < first || position > last) {
        row.remove();
        this.rows.delete(position);
      }
    }
    for (let position = first; position <= last; position++) {
      if (!this.rows.has(position)) this.rows.set(position, this.row(position));
      const chosen = position === this.position;
      this.rows.get(position).setAttribute("aria-selected", String(chosen));
      if (chosen) this.box.setAttribute("aria-activedescendant", this.rows.get(position).id);
    }
  }

  row(position) {
    const place = this.view[position];
    const {marks} = this.run;
    const kinds = Object.keys(marks).filter((kind) => marks[kind].length && marks[kind][countUpTo(marks[kind], place) - 1] === place);
    const row = el("div", {
      role: "option", id: `row-${position}`, class: ["row", ...kinds].join(" "), "data-place": place,
      "aria-setsize": this.view.length, "aria-posinset": position + 1,
    },
      el("span", {class: "at"}, this.run.tick === 1 ? String(place + 1) : (this.run.moments[place][0] / this.run.tick).toFixed(1)),
      el("span", {class: "what"}, headline(this.run, place), el("span", {class: "soft"}, summary(this.run, place))));
    row.style.transform = `translateY(${position * ROW}px)`;
    this.inner.append(row);
    return row;
  }
}

/* The most important thing that a moment changed. */
function summary(run, place) {
  const all = effects(run, place);
  const first = all.find((effect) => / leads| candidate|down|committed|votes for|dropped/.test(effect)) || all[0];
  return first ? ` — ${first}` : "";
}
