/* The film: which run is watched (the run, or a fork), at which step, and what a key or a button does.

   `view` has the places of the moments that are gone through: all, or those that aren't heartbeats only. `position` is
   where in it we are. Everything shown follows from (run, view, position); `show` draws it, once in a frame at most.
   The place is in the address (#41, or #41/2 in the third of the other ends), so that it can be handed on. */

const film = JSON.parse(byId("film").textContent);
const JUMPS = [["election", "election", "e"], ["commit", "commit", "c"], ["crash", "crash", "x"], ["broken", "broken property", "v"]];

const runs = new Map();
let run = null;
let view = [];
let position = 0;
let playing = 0;
let asked = false;

const list = new StepList(byId("list"), goTo);
const diagram = new Diagram(byId("diagram"), goTo);
const code = new Code(byId("code"), film);
const forks = new Forks(byId("forks"), film, (number) => watch(number, film.forks[number].at));

/* Watches the run (-1) or one of the forks, from the step that is nearest to `place`. */
function watch(number, place) {
  if (!runs.has(number)) runs.set(number, new Run(film, film.forks[number]));
  run = runs.get(number);
  byId("watching").hidden = number < 0;
  if (number >= 0) {
    byId("watching").firstElementChild.textContent = `Another end: ${forkTold(film, run.fork)}. Here, ${endTold(run)}.`;
  }
  byId("violation").hidden = !run.violation;
  byId("violation").firstElementChild.textContent = run.violation.split("\n")[0];
  look(place);
}

/* Chooses which moments are gone through, and stays near a place. */
function look(place) {
  view = byId("quiet").checked ? run.moments.map((_, number) => number) : run.loud;
  list.open(run, view);
  byId("slider").max = Math.max(0, view.length - 1);
  drawMarks();
  drawJumps();
  goTo(place);
}

function goTo(place) {
  position = Math.min(view.length - 1, Math.max(0, countUpTo(view, place) - 1));
  ask();
}

function move(by) {
  position = Math.min(view.length - 1, Math.max(0, position + by));
  ask();
}

/* To the next mark of a kind, or the one before. */
function jump(kind, back) {
  const found = (back ? before : after)(run.marks[kind], view[position]);
  if (found !== undefined) goTo(found);
  else if (kind === "broken" && run.marks.broken.length) goTo(run.marks.broken[0]);
}

function ask() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    show();
  });
}

function show() {
  const place = view.length ? view[position] : -1;
  const moment = run.moments[place];
  byId("slider").value = position;
  byId("slider").setAttribute("aria-valuetext", `step ${position + 1} of ${view.length}: ${headline(run, place)}`);
  byId("when").textContent = `step ${position + 1} of ${view.length}${moment ? when(run, moment) : ""}`;
  byId("headline").textContent = headline(run, place);
  byId("story").textContent = run.story(place);
  byId("story").hidden = !byId("story").textContent;
  const changed = effects(run, place);
  const broken = run.violation && place === run.last ? [violated(run.violation)] : [];
  byId("effects").replaceChildren(...broken, ...changed.map((effect) => el("li", {}, effect)));
  byId("spoken").textContent = playing ? "" : `${headline(run, place)}. ${changed.join(". ")}`;
  byId("lines").textContent = moment ? moment[4].map(([node, text]) => (node ? `node ${node}  ${text}` : text)).join("\n") : "";
  if (run.nodes.length && moment) {
    byId("stage").replaceChildren(drawStage(run, place));
    const scrolled = byId("logs").firstElementChild ? byId("logs").firstElementChild.scrollLeft : 0;
    byId("logs").replaceChildren(drawLogs(run, place, cells()));
    byId("logs").firstElementChild.scrollLeft = scrolled;
    diagram.draw(run, view, position);
  }
  list.show(position);
  code.show(moment);
  forks.show(run, place);
  document.body.classList.toggle("at-violation", Boolean(broken.length));
  const fork = run.fork ? film.forks.indexOf(run.fork) : -1;
  history.replaceState(null, "", `#${place}${fork >= 0 ? `/${fork}` : ""}`);
}

/* What is broken: a sentence, and what follows it as it is (the difference between two texts, say). */
function violated(text) {
  const [sentence, ...rest] = text.split("\n");
  return el("li", {class: "broken"}, sentence, rest.length ? el("pre", {}, rest.join("\n")) : null);
}

/* How many entries of the logs fit beside the nodes' states. */
function cells() {
  return Math.min(32, Math.max(8, Math.floor((byId("logs").clientWidth - (innerWidth > 520 ? 396 : 250)) / 29)));
}

function play(on) {
  clearInterval(playing);
  if (on && position >= view.length - 1) position = 0;
  playing = on ? setInterval(() => (position < view.length - 1 ? move(1) : play(false)), Number(byId("speed").value)) : 0;
  byId("play").textContent = on ? "pause" : "play";
  byId("play").setAttribute("aria-pressed", String(on));
}

function go(where) {
  play(false);
  if (where === "first") goTo(view[0]);
  else if (where === "last") goTo(view[view.length - 1]);
  else move(where === "back" ? -1 : 1);
}

function drawJumps() {
  byId("jumps").replaceChildren(...JUMPS.flatMap(([kind, name, key]) => {
    const count = run.marks[kind].length;
    if (!count) return [];
    if (kind === "broken") return [el("button", {type: "button", class: "broken", "data-jump": kind, "data-testid": "next-broken", title: "v"}, run.tick === 1 ? "first difference" : "broken property")];
    return [el("span", {class: `jump ${kind}`},
      el("button", {type: "button", "data-jump": kind, "data-way": "back", "aria-label": `${name} before`, title: `shift ${key}`}, "‹"),
      el("span", {}, `${count} ${name}${count === 1 ? "" : name === "crash" ? "es" : "s"}`),
      el("button", {type: "button", "data-jump": kind, "aria-label": `next ${name}`, title: key, "data-testid": `next-${kind}`}, "›"))];
  }));
}

/* The marks above the slider: where elections, commits, crashes and forks are. */
function drawMarks() {
  const canvas = byId("marks");
  const width = canvas.clientWidth;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, width * scale);
  canvas.height = 22 * scale;
  const paint = canvas.getContext("2d");
  const colours = getComputedStyle(document.body);
  const rows = [["commit", 16, 6], ["election", 8, 14], ["crash", 0, 10], ["broken", 0, 22]];
  paint.scale(scale, scale);
  const x = (place) => 8 + ((countUpTo(view, place) - 1) / Math.max(1, view.length - 1)) * (width - 16);
  for (const [kind, top, height] of rows) {
    paint.fillStyle = colours.getPropertyValue(`--${kind}`);
    for (const place of run.marks[kind]) paint.fillRect(x(place) - 1, top, kind === "broken" ? 3 : 2, height);
  }
  paint.fillStyle = colours.getPropertyValue("--fork");
  for (const fork of run.fork ? [run.fork] : film.forks) {
    paint.beginPath();
    paint.arc(x(fork.at), 4, 3.5, 0, 2 * Math.PI);
    paint.fill();
  }
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("select, input[type=checkbox], summary, a")) return;
  if (event.key === " " && event.target.closest("button")) return;
  const keys = {
    "ArrowLeft": () => go("back"), "ArrowRight": () => go("on"), "Home": () => go("first"), "End": () => go("last"),
    " ": () => play(!playing), "+": () => speed(1), "-": () => speed(-1), "−": () => speed(-1),
  };
  if (event.target.closest("[role=listbox]")) Object.assign(keys, {"ArrowUp": () => go("back"), "ArrowDown": () => go("on")});
  for (const [kind, , key] of JUMPS) {
    keys[key] = () => jump(kind, false);
    keys[key.toUpperCase()] = () => jump(kind, true);
  }
  if (keys[event.key]) {
    keys[event.key]();
    event.preventDefault();
  }
}

function speed(by) {
  const box = byId("speed");
  box.selectedIndex = Math.min(box.options.length - 1, Math.max(0, box.selectedIndex + by));
  if (playing) play(true);
}

function begin() {
  const {ended} = film;
  byId("about").textContent = film.nodes.length
    ? `${film.nodes.length} nodes, ${ended.messages} messages, ${film.tick === 1 ? `${film.moments.length} steps` : `${(ended.at / film.tick).toFixed(0)} ticks`}: ${endTold(film)}.`
    : `${film.moments.length} operations`;
  byId("facts").hidden = !film.facts.length;
  byId("facts").lastElementChild.append(...film.facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  if (film.words) byId("facts").append(el("p", {}, "Played by ", el("code", {}, command(film).replace(" --html other.html", ""))));
  byId("left-out").hidden = !film.left_out;
  byId("left-out").textContent = `The run is longer than a film may be: its first ${film.left_out} moments are left out.`;
  document.body.classList.toggle("no-nodes", !film.nodes.length);
  for (const id of ["stage-part", "diagram-part", "code-part"]) byId(id).hidden = !film.nodes.length;
  byId("forks-part").hidden = !film.words && !film.forks.length;
  document.body.classList.toggle("no-forks", byId("forks-part").hidden);
  byId("quiet").closest("label").hidden = !film.nodes.length;

  byId("controls").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.go) go(button.dataset.go);
    if (button.dataset.jump) jump(button.dataset.jump, button.dataset.way === "back");
  });
  byId("play").addEventListener("click", () => play(!playing));
  byId("speed").addEventListener("change", () => playing && play(true));
  byId("quiet").addEventListener("change", () => look(view[position]));
  byId("slider").addEventListener("input", () => { position = Number(byId("slider").value); ask(); });
  byId("to-violation").addEventListener("click", () => jump("broken", false));
  byId("back").addEventListener("click", () => watch(-1, view[position]));
  document.addEventListener("keydown", pressed);
  addEventListener("resize", () => { drawMarks(); ask(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMarks);

  const [, place, fork] = /^#(\d+)(?:\/(\d+))?$/.exec(location.hash) || [];
  const number = fork !== undefined && film.forks[Number(fork)] ? Number(fork) : -1;
  watch(number, place !== undefined ? Number(place) : film.violation ? film.moments.length - 1 : 0);
}

begin();
