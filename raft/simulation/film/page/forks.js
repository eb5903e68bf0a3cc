/* Other ends: what can be taken away at the step that is shown, as a command; and the ends that the film has with it. */

class Forks {
  constructor(place, film, watch) {
    this.film = film;
    this.watch = watch;
    this.here = el("div", {class: "here"});
    this.all = el("ol", {class: "ends", "data-testid": "ends"});
    place.append(this.here, el("h3", {hidden: !film.forks.length}, "Ends that are in this page"), this.all);
    this.all.append(...film.forks.map((fork, number) => this.end(fork, number)));
    place.addEventListener("click", (event) => this.clicked(event));
  }

  end(fork, number) {
    const differs = Boolean(fork.violation) !== Boolean(this.film.violation);
    return el("li", {class: differs ? "differs" : null},
      el("button", {type: "button", "data-fork": number, "data-testid": `fork-${number}`}, forkTold(this.film, fork)),
      el("span", {class: "soft"}, `: ${endTold(fork)}`));
  }

  show(run, place) {
    const {film} = this;
    const moment = run.moments[place];
    const things = [];
    if (moment && moment[3] >= 0) things.push(["skip", moment[3], `leave out this step of the plan (${film.steps[moment[3]][0]})`]);
    if (moment) {
      const numbers = [...new Set([...run.arrivals(place), ...run.sent(place, place)])];
      for (const number of numbers) {
        if (run.messages[number][8] === RECEIVED || run.messages[number][8] === UNDER_WAY) things.push(["drop", number + 1, `drop message ${number + 1}: ${told(run, number)}`]);
      }
    }
    const shown = things.slice(0, 6);
    const parts = shown.map((thing) => this.thing(run, ...thing));
    if (things.length > shown.length) parts.push(el("li", {class: "soft"}, `and ${things.length - shown.length} more messages`));
    if (!parts.length) parts.push(el("li", {class: "soft"}, "Nothing of this step can be taken away."));
    this.here.hidden = !film.words;
    this.here.replaceChildren(
      el("p", {}, run.fork ? "At this step of this end:" : "At this step:"),
      el("ul", {class: "things"}, parts));
    for (const button of this.all.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(run.fork === film.forks[Number(button.dataset.fork)]));
    }
  }

  thing(run, kind, number, text) {
    const {film} = this;
    const found = run.fork ? -1 : film.forks.findIndex((fork) => fork.kind === kind && fork.number === number);
    const base = run.fork ? Object.assign({}, film, {
      dropped: film.dropped.concat(run.fork.kind === "drop" ? [run.fork.number] : []),
      skipped: film.skipped.concat(run.fork.kind === "skip" ? [run.fork.number] : []),
    }) : film;
    const words = command(base, kind, number);
    return el("li", {}, text,
      found >= 0 ? el("button", {type: "button", "data-fork": found}, "see that end") : null,
      film.words ? el("span", {class: "command"}, el("code", {"data-testid": `command-${kind}-${number}`}, words), el("button", {type: "button", "data-copy": words}, "copy")) : null);
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.fork !== undefined) this.watch(Number(button.dataset.fork));
    if (button.dataset.copy !== undefined) {
      const done = () => { button.textContent = "copied"; };
      if (navigator.clipboard) navigator.clipboard.writeText(button.dataset.copy).then(done, () => select(button));
      else select(button);
    }
  }
}

/* Where the clipboard is closed (a page from a file), the command is selected. */
function select(button) {
  const range = document.createRange();
  range.selectNodeContents(button.previousElementSibling);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}
