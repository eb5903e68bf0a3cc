/* The messages as a sequence diagram around the step that is shown: time runs down, a node is a line, a message an arrow
   from when it was sent to when it arrived. It follows the cursor; a click on a row goes there. */

const AROUND = 11;
const LINE = 26;
const GUTTER = 64;

class Diagram {
  constructor(place, choose) {
    this.place = place;
    place.addEventListener("click", (event) => {
      const row = event.target.closest("[data-place]");
      if (row) choose(Number(row.dataset.place));
    });
  }

  draw(run, view, position) {
    const first = Math.max(0, Math.min(position - AROUND, view.length - 2 * AROUND - 1));
    const last = Math.min(view.length - 1, first + 2 * AROUND);
    const width = 640;
    const height = 30 + (last - first + 1) * LINE + 6;
    const step = (width - GUTTER - 80) / Math.max(1, run.nodes.length - 1);
    const x = (node) => GUTTER + 36 + run.nodes.indexOf(node) * step;
    // A moment that isn't in the view lies between two rows.
    const y = (place) => {
      const count = countUpTo(view, place);
      const exact = view[count - 1] === place;
      return Math.min(height - 4, Math.max(24, 30 + (count - 1 - first + (exact ? 0.5 : 1)) * LINE));
    };
    const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", class: "sequence", "data-testid": "diagram"});
    picture.append(svg("title", {}, `The messages around step ${position + 1} of ${view.length}; the list of steps says the same in words.`));
    picture.append(svg("defs", {}, ...["vote", "beat", "snap", "app", "misc"].map(head)));
    for (let row = first; row <= last; row++) picture.append(this.row(run, view[row], row === position, 30 + (row - first) * LINE, width));
    const tags = svg("g", {});
    for (const node of run.nodes) this.life(run, view, node, x(node), first, last, picture, tags);
    const from = view[first];
    const to = view[last];
    const numbers = new Set([...run.underWay(from - 1), ...run.sent(from, to)]);
    const current = view[position];
    const seen = new Set(view.slice(first, last + 1));
    for (const number of numbers) {
      const [, , type, , , sentIn, , endedIn] = run.messages[number];
      if (family(type) !== "beat" || seen.has(sentIn) || seen.has(endedIn)) picture.append(arrow(run, number, x, y, current));
    }
    picture.append(tags);
    this.place.replaceChildren(picture);
  }

  row(run, place, chosen, top, width) {
    const moment = run.moments[place];
    const group = svg("g", {class: chosen ? "row chosen" : "row", "data-place": place});
    group.append(svg("rect", {x: 0, y: top, width, height: LINE}));
    group.append(svg("text", {x: 6, y: top + LINE / 2 + 4, class: "at"}, run.tick === 1 ? String(place + 1) : (moment[0] / run.tick).toFixed(2)));
    group.append(svg("title", {}, headline(run, place)));
    return group;
  }

  /* A node's line: thick while it leads, dotted while it is down; and what it becomes. */
  life(run, view, node, x, first, last, picture, tags) {
    picture.append(svg("text", {x, y: 16, class: "name"}, `node ${node}`));
    for (let row = first; row <= last; row++) {
      const place = view[row];
      const state = run.state(node, place);
      const top = 30 + (row - first) * LINE;
      const line = svg("line", {x1: x, y1: top, x2: x, y2: top + LINE, class: `life ${state.up ? state.role : "down"}`});
      picture.append(line);
      const moment = run.moments[place];
      const changes = moment[5][node] || {};
      if (changes.up === false) tags.append(svg("text", {x, y: top + LINE / 2 + 6, class: "cross"}, "✕"));
      else if (changes.up === true) tags.append(svg("circle", {cx: x, cy: top + LINE / 2, r: 5, class: "mark starts"}));
      else if (changes.role) tags.append(mark(x, top + LINE / 2, changes.role, `${changes.role} ${state.term}`));
      else if (changes.commit !== undefined) tags.append(mark(x, top + LINE / 2, "commit", `commit ${changes.commit}`));
      else if (Object.keys(changes).some((field) => !QUIET_FIELDS.has(field)) || moment[1] === node) {
        picture.append(svg("circle", {cx: x, cy: top + LINE / 2, r: 3.5, class: "mark"}));
      }
    }
  }
}

function mark(x, y, kind, text) {
  const width = 12 + 6.4 * text.length;
  return svg("g", {class: `tag ${kind}`},
    svg("rect", {x: x - width / 2, y: y - 9, width, height: 18, rx: 9}), svg("text", {x, y: y + 4}, text));
}

function head(kind) {
  return svg("marker", {id: `head-${kind}`, orient: "auto", markerUnits: "userSpaceOnUse", markerWidth: 10, markerHeight: 10, viewBox: "0 0 7 7", refX: 6, refY: 3.5, class: kind},
    svg("path", {d: "M0,0 L7,3.5 L0,7 z"}));
}

function arrow(run, number, x, y, current) {
  const [source, target, type, text, , sentIn, , endedIn, how] = run.messages[number];
  const [x1, x2] = [x(source), x(target)];
  const y1 = y(sentIn);
  const open = endedIn === -2;
  const y2 = open ? y1 + 40 : Math.max(y1 + 2, y(endedIn));
  const here = sentIn === current || endedIn === current;
  const lost = !open && how !== RECEIVED;
  const future = sentIn > current;
  const way = x2 > x1 ? 1 : -1;
  const group = svg("g", {class: `arrow ${family(type)}${here ? " here" : ""}${lost ? " lost" : ""}${future ? " future" : ""}`, "data-number": number});
  const stop = {x: lost ? (x1 + x2) / 2 : x2 - 6 * way, y: lost ? (y1 + y2) / 2 : y2};
  group.append(svg("line", {x1: x1 + 4 * way, y1, x2: stop.x, y2: stop.y, "marker-end": lost ? null : `url(#head-${family(type)})`}));
  if (lost) group.append(svg("text", {x: stop.x, y: stop.y + 5, class: "cross"}, "✕"));
  if (here || family(type) !== "beat") {
    const near = {x: x1 + (x2 - x1) * 0.28, y: y1 + (y2 - y1) * 0.28 - 4};
    group.append(svg("text", {x: near.x, y: near.y, class: "label"}, short(type)));
  }
  group.append(svg("title", {}, `message ${number + 1}: ${text || told(run, number)}`));
  return group;
}
