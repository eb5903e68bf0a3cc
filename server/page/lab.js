/* The lab: what breaks the cluster, and heals it. There is one only under `metcd cluster --lab`, whose address brings

       /_/page#lab=http://127.0.0.1:3378&token=…        where it is called, and what shows that one may

   to this page. A fragment is not sent to any server; it is taken out of the address bar before anything else happens, and
   kept for this tab alone. The faults are real: server/lab.py has a link cut in the nodes' transport, a process stopped or
   killed, a disk made slow. So nothing here is drawn from what was clicked: `page.faults` is what the lab answered.

   A click on a link of the cluster's picture cuts or heals it, one on a node chooses it; what can be done to the chosen node
   stands in this panel, and every link has a button here, too, for the keyboard.

   Invariants
    1. One call at a time, LOOK_MS between two looks, and none while the tab is hidden.
    2. A refusal is one sentence of the lab's, and it is shown. After 401 nothing more is asked: the cluster was started
       anew, with another token. */

import {h, keyed, put, say} from "./svg.js";

const LOOK_MS = 1000; // processes may end, and come back, by other hands
const KEPT = "metcd-lab";
const LOCAL = /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost):\d+$/;
const DELAYS = [[0, "as fast as it is"], [0.05, "50 ms a sync longer"], [0.2, "200 ms longer"], [1, "1 s longer"]];

/** {url, token} of the address, or of an earlier one in this tab; null if there is no lab. */
function takeKey() {
  if (location.hash.startsWith("#lab=")) {
    const told = new URLSearchParams(location.hash.slice(1));
    history.replaceState(null, "", location.pathname + location.search);
    if (LOCAL.test(told.get("lab")) && told.get("token")) {
      sessionStorage.setItem(KEPT, JSON.stringify({url: told.get("lab"), token: told.get("token")}));
    }
  }
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
}

const key = takeKey();

export const panel = {
  id: "lab",
  mount(root, page) {
    if (!key) return {draw() {}};
    put(root, {"data-testid": "lab"});
    return new Lab(root, page);
  },
};

class Lab {
  constructor(root, page) {
    Object.assign(this, {page, state: null, chosen: null, queue: Promise.resolve(), over: false});
    page.lab = this;
    this.nodes = h("div", {class: "buttons", role: "radiogroup", "aria-label": "Which node"});
    this.process = h("p", {class: "note", "data-testid": "lab-process"});
    this.actions = h("div", {class: "buttons"}, ...this.nodeButtons());
    this.delay = h("select", {id: "lab-delay", "data-testid": "lab-disk",
      onchange: () => this.ask(`nodes/${this.chosen}/disk`, {sync_delay_s: Number(this.delay.value)})},
    ...DELAYS.map(([seconds, words]) => h("option", {value: seconds}, words)));
    this.links = h("ul", {class: "lab-links", "data-testid": "lab-links"});
    this.answer = h("p", {class: "answer", role: "status", "data-testid": "lab-answer"});
    const heal = h("button", {type: "button", "data-testid": "lab-heal", onclick: () => this.heal()}, "Heal every link");
    root.append(h("h2", {}, "Lab"),
      h("p", {class: "note"}, "These faults are real ones. A click on a link of the picture cuts it, and heals it again; one on a node chooses it."),
      h("div", {class: "fields"}, this.nodes, this.process, this.actions,
        h("div", {}, h("label", {for: "lab-delay"}, "its disk"), this.delay)),
      h("div", {class: "fields"}, h("h3", {}, "Links"), this.links, h("div", {class: "buttons"}, heal), this.answer));
    page.on("link", (a, b) => this.cut(a, b, !this.isCut(a, b) && !this.isCut(b, a)));
    page.on("node", (id) => this.choose(id));
    setInterval(() => document.hidden || this.over || this.look(), LOOK_MS);
    this.look();
  }

  // ---- what is asked ------------------------------------------------------------------------------------------------

  /** Has the lab do something, after what was asked before. The answer is the state after it. */
  ask(path, body, method = "POST") {
    this.queue = this.queue.then(() => this.call(path, body, method));
    return this.queue;
  }

  async call(path, body, method) {
    let answer, told;
    try {
      answer = await fetch(`${key.url}/_/lab${path && `/${path}`}`, {
        method, body: body && JSON.stringify(body), headers: {Authorization: `Bearer ${key.token}`}, cache: "no-store",
      });
      told = await answer.json();
    } catch {
      return this.say("The lab can't be reached: the cluster has ended.", true);
    }
    if (answer.ok) return this.take(told, method);
    if (answer.status === 401) {
      this.over = true;
      sessionStorage.removeItem(KEPT);
      return this.say("This token is of an earlier start: open the address that `metcd cluster --lab` has printed.", true);
    }
    this.say(told.error, true);
  }

  look() {
    this.ask("", undefined, "GET");
  }

  cut(a, b, cut, one_way = false) {
    this.ask(`links/${a}/${b}`, {cut, one_way});
  }

  /** All links of the chosen node, or none. */
  isolate() {
    const cut = !this.isolated();
    for (const other of this.others()) this.cut(this.chosen, other, cut);
  }

  heal() {
    for (const [a, b] of this.state?.cut ?? []) this.cut(a, b, false, true);
  }

  // ---- what the lab says --------------------------------------------------------------------------------------------

  take(state, method) {
    this.state = state;
    this.chosen ??= this.page.world.leader?.id ?? Number(Object.keys(state.nodes)[0]);
    if (method === "POST" || this.failing) this.say("");
    const ids = (process) => Object.keys(state.nodes).map(Number).filter((id) => state.nodes[id].process === process);
    const faults = this.page.faults;
    faults.cut = new Set(state.cut.map(([a, b]) => `${a}>${b}`));
    faults.paused = new Set(ids("paused"));
    faults.dead = new Set(ids("dead").filter((id) => !this.page.world.node(id)?.live)); // or it was brought back by hand
    this.page.wake();
  }

  say(sentence, failing = false) {
    this.failing = failing;
    say(this.answer, sentence);
    put(this.answer, {class: failing ? "answer bad" : "answer"});
  }

  isCut(a, b) {
    return (this.state?.cut ?? []).some(([from, to]) => from === a && to === b);
  }

  others() {
    return Object.keys(this.state.nodes).map(Number).filter((id) => id !== this.chosen);
  }

  isolated() {
    return this.others().every((other) => this.isCut(this.chosen, other) && this.isCut(other, this.chosen));
  }

  choose(id) {
    if (!this.state?.nodes[id]) return;
    this.chosen = id;
    this.page.wake();
  }

  // ---- what is drawn ------------------------------------------------------------------------------------------------

  /** Each is {name, words(), why, able(), on(): what a click does}; a pair of which only one is possible is one button. */
  nodeButtons() {
    const process = () => this.state.nodes[this.chosen].process;
    const node = (path) => this.ask(`nodes/${this.chosen}/${path}`);
    const leads = () => this.page.world.leader?.id === this.chosen;
    const running = () => process() === "running";
    const known = [
      {name: "pause", words: () => (process() === "paused" ? "Go on" : "Pause"), able: () => process() !== "dead",
        why: "SIGSTOP: every thread stands still, connections stay open, and nobody is told",
        on: () => node(process() === "paused" ? "resume" : "pause")},
      {name: "kill", words: () => (process() === "dead" ? "Start" : "Kill"), able: () => true,
        why: "SIGKILL: it ends in the middle of whatever it does, and starts on the same files",
        on: () => node(process() === "dead" ? "start" : "kill")},
      {name: "isolate", words: () => (this.isolated() ? "Heal its links" : "Cut it off"), able: () => this.others().length > 0,
        why: "cuts all its links, in both directions", on: () => this.isolate()},
      {name: "lead", words: () => "Make it lead", able: () => running() && !leads(),
        why: "the leader hands over to it (Raft's thesis, section 3.10)", on: () => this.ask(`leader/${this.chosen}`)},
      {name: "elect", words: () => (leads() ? "Step down" : "Campaign"), able: running,
        why: "a leader that steps down leaves the place to an election; a follower that campaigns is refused by those who hear a leader",
        on: () => node(leads() ? "step_down" : "campaign")},
      {name: "compact", words: () => "Compact", able: running, why: "the engine gives back the space of what was deleted and overwritten",
        on: () => node("compact")},
    ];
    return known.map((each) => Object.assign(h("button", {type: "button", disabled: true, title: each.why,
      "data-testid": `lab-${each.name}`, onclick: () => this.state && each.on()}), {about: each}));
  }

  draw() {
    if (!this.state) return;
    const ids = Object.keys(this.state.nodes).map(Number);
    const chosen = this.state.nodes[this.chosen];
    keyed(this.nodes, ids, (id) => id, (id) => h("button", {type: "button", role: "radio", "data-testid": `lab-node-${id}`,
      onclick: () => this.choose(id)}), (button, id) => {
      put(button, {"aria-checked": String(id === this.chosen), "data-process": this.state.nodes[id].process});
      say(button, `Node ${id}`);
    });
    say(this.process, `Node ${this.chosen} is ${chosen.process}${this.isolated() ? ", and cut off from all others" : ""}.`);
    for (const button of this.actions.children) {
      say(button, button.about.words());
      put(button, {disabled: this.over || !button.about.able(), class: button.textContent === "Kill" ? "danger" : ""});
    }
    if (document.activeElement !== this.delay) this.delay.value = String(chosen.sync_delay_s);
    const pairs = ids.flatMap((a, n) => ids.slice(n + 1).map((b) => [a, b]));
    keyed(this.links, pairs, (pair) => pair.join("-"), ([a, b]) => this.makeLink(a, b), (item, [a, b]) => {
      const [one, other] = [this.isCut(a, b), this.isCut(b, a)];
      const [both, there, back] = item.querySelectorAll("button");
      put(item, {"data-state": one && other ? "cut" : one || other ? "half" : "whole"});
      say(both, one || other ? "Heal" : "Cut");
      put(there, {"aria-pressed": String(one)});
      put(back, {"aria-pressed": String(other)});
    });
  }

  makeLink(a, b) {
    const way = (from, to) => h("button", {type: "button", "data-testid": `lab-way-${from}-${to}`,
      "aria-label": `cut what node ${from} sends to node ${to}`, onclick: () => this.cut(from, to, !this.isCut(from, to), true)}, `${from} → ${to}`);
    return h("li", {}, h("span", {}, `${a} – ${b}`), h("button", {type: "button", "data-testid": `lab-link-${a}-${b}`,
      "aria-label": `cut or heal the link between node ${a} and node ${b}`,
      onclick: () => this.cut(a, b, !this.isCut(a, b) && !this.isCut(b, a))}), way(a, b), way(b, a));
  }
}
