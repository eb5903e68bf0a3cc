/* The nodes on a ring, with the messages between them; and below it, each node's state and log.

   A node's ring has the colour of its role; a message is a dot that goes from node to node as far as its time has gone.
   In the logs a cell is an entry: its column is the index, its number the term; dashed is not yet on disk, and a bar
   stands below what the node knows as committed. What a moment has changed is marked. */

const CENTRE = {x: 230, y: 150};
const FAMILIES = [[/Vote/, "vote"], [/Heartbeat/, "beat"], [/Snap/, "snap"], [/App/, "app"]];

function family(type) {
  const found = FAMILIES.find(([pattern]) => pattern.test(type));
  return found ? found[1] : "misc";
}

function placeOf(nodes, node) {
  const angle = (nodes.indexOf(node) / nodes.length) * 2 * Math.PI - Math.PI / 2;
  return {x: CENTRE.x + 158 * Math.cos(angle), y: CENTRE.y + 104 * Math.sin(angle)};
}

function between(from, to, share, aside) {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const across = {x: (to.y - from.y) / length, y: (from.x - to.x) / length};
  return {x: from.x + (to.x - from.x) * share + across.x * aside, y: from.y + (to.y - from.y) * share + across.y * aside};
}

function drawStage(run, place) {
  const moment = run.moments[place];
  const picture = svg("svg", {viewBox: "0 0 460 310", role: "img", class: "ring", "data-testid": "stage"});
  picture.append(svg("title", {}, stageTold(run, place)));
  const cut = new Set(run.links(place).map(([a, b]) => `${a}-${b}`));
  run.nodes.forEach((a, position) => run.nodes.slice(position + 1).forEach((b) => {
    const [from, to] = [placeOf(run.nodes, a), placeOf(run.nodes, b)];
    const ways = [cut.has(`${a}-${b}`), cut.has(`${b}-${a}`)];
    picture.append(svg("line", {x1: from.x, y1: from.y, x2: to.x, y2: to.y, class: ways[0] || ways[1] ? "link cut" : "link"}));
    if (ways[0] || ways[1]) {
      const middle = between(from, to, ways[0] && ways[1] ? 0.5 : ways[0] ? 0.62 : 0.38, 0);
      picture.append(svg("text", {x: middle.x, y: middle.y + 5, class: "cross"}, "✕"));
    }
  }));
  const here = new Set(run.arrivals(place));
  for (const number of run.underWay(place).concat([...here])) picture.append(dot(run, moment, number, here.has(number)));
  for (const node of run.nodes) picture.append(ball(run, place, node));
  return picture;
}

function dot(run, moment, number, ended) {
  const [source, target, type, , sentAt, , endedAt, , how] = run.messages[number];
  const gone = ended ? 1 : (moment[0] - sentAt) / Math.max(1, (endedAt < 0 ? sentAt + 2 * run.tick : endedAt) - sentAt);
  const lost = ended && how !== RECEIVED;
  const share = lost ? 0.5 : 0.2 + 0.6 * Math.min(1, Math.max(0, gone));
  const {x, y} = between(placeOf(run.nodes, source), placeOf(run.nodes, target), share, 9);
  const group = svg("g", {class: `dot ${family(type)}${ended ? " here" : ""}${lost ? " lost" : ""}`, "data-number": number});
  group.append(lost ? svg("text", {x, y: y + 5, class: "cross"}, "✕") : svg("circle", {cx: x, cy: y, r: ended ? 7 : 5}));
  group.append(svg("text", {x: x + 9, y: y + 4, class: "label"}, short(type)));
  group.append(svg("title", {}, run.messages[number][3] || told(run, number)));
  return group;
}

function ball(run, place, node) {
  const state = run.state(node, place);
  const moment = run.moments[place];
  const {x, y} = placeOf(run.nodes, node);
  const paused = state.up && (state.paused || 0) > moment[0];
  const acts = moment && (moment[1] === node || moment[5][node]);
  const group = svg("g", {class: `node ${state.up ? state.role : "down"}${acts ? " acts" : ""}${paused ? " paused" : ""}`});
  group.append(svg("circle", {cx: x, cy: y, r: 31, class: "halo"}), svg("circle", {cx: x, cy: y, r: 26}));
  group.append(svg("text", {x, y: y + 1, class: "id"}, String(node)));
  const under = state.up ? (paused ? "paused" : `term ${state.term}`) : "down";
  group.append(svg("text", {x, y: y + 15, class: "under"}, under));
  const votes = Object.values(state.votes || {}).filter(Boolean).length;
  if (state.up && /candidate/.test(state.role)) {
    group.append(svg("text", {x, y: y - 36, class: "note"}, `${votes} of ${(state.voters || []).length} votes`));
  }
  return group;
}

function stageTold(run, place) {
  const nodes = run.nodes.map((node) => {
    const state = run.state(node, place);
    return `node ${node} ${state.up ? `${ROLES[state.role]} in term ${state.term}` : "is down"}`;
  });
  return `${nodes.join("; ")}. ${run.underWay(place).length} messages are on their way.`;
}

/* The table of states and logs. */
function drawLogs(run, place, cells) {
  const moment = run.moments[place];
  const states = run.nodes.map((node) => run.state(node, place));
  const end = Math.max(1, ...states.map((state) => (state.log ? state.log[1] : 0)));
  const begin = Math.max(1, end - cells + 1);
  const indexes = Array.from({length: end - begin + 1}, (_, offset) => begin + offset);
  const head = ["node", "role", "term", "vote", "commit", "applied"].map((name) => el("th", {scope: "col"}, name));
  head.push(...indexes.map((index, position) => el("th", {scope: "col", class: "index"}, position === 0 && begin > 1 ? `…${index}` : String(index))));
  const rows = run.nodes.map((node, position) => {
    const state = states[position];
    const changed = (moment && moment[5][node]) || {};
    const fact = (name, text) => el("td", {class: name in changed ? "new" : null}, text);
    const role = el("td", {class: `role ${"role" in changed || "up" in changed ? "new" : ""}`},
      el("span", {class: `chip ${state.up ? state.role : "down"}`}, state.up ? state.role : "down"));
    return el("tr", {class: state.up ? null : "down"}, el("th", {scope: "row"}, `node ${node}`), role,
      fact("term", String(state.term ?? "")), fact("vote", state.vote ? String(state.vote) : "–"),
      fact("commit", String(state.commit ?? 0)), fact("applied", String(state.applied ?? 0)),
      ...indexes.map((index) => cell(run, place, node, state, index)));
  });
  return el("div", {class: "scroll-x", tabindex: "0", role: "region", "aria-label": "states and logs of the nodes"},
    el("table", {class: "logs", "data-testid": "logs"}, el("caption", {class: "visually-hidden"}, "role, term, vote, commit and applied index of each node, and the terms of its log's entries"),
      el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
    el("p", {class: "legend soft"}, "An entry's cell has its term. Dashed: not on disk yet. With a bar: committed, as the node knows it."));
}

function cell(run, place, node, state, index) {
  const term = termAt(state.log, index);
  if (!term) {
    const covered = state.log && index < state.log[0];
    return el("td", {class: covered ? "cell covered" : "cell none", title: covered ? "in the snapshot" : null}, covered ? "·" : "");
  }
  const was = run.state(node, place - 1);
  const kinds = ["cell", "entry"];
  if (index <= (state.commit || 0)) kinds.push("committed");
  if (index > (state.disk || 0)) kinds.push("unwritten");
  if (termAt(was.log, index) !== term) kinds.push("new");
  const says = run.entries[`${index}/${term}`];
  return hue(el("td", {class: kinds.join(" "), title: `entry ${index} of term ${term}${says ? `: ${says}` : ""}`}, String(term)), term);
}
