/* A run, as raft/simulation/film/data.py has written it, with what makes every question about a step quick.

   moment     [at, node, kind, step, lines, changes, cut, act]
   message    [from, to, type, text, sent at, in moment, ended at, in moment, how]     its number is its place + 1

   A node's state is kept for each moment in which it changed (the unchanged fields are shared), so that of any moment is
   found by halving. Messages under way are listed at every 128th moment; what was sent since is looked through. Marks
   (elections, commits, crashes) are found once. So a step costs the same in a run of 100 moments and of 20,000. */

const BLOCK = 128;
const UNDER_WAY = 0, RECEIVED = 1, LOST = 2, DROPPED = 3;
const QUIET_FIELDS = new Set(["disk", "progress", "votes"]);

class Run {
  /* The film's own run, or one of its forks, which begins like it. */
  constructor(film, fork) {
    this.film = film;
    this.fork = fork || null;
    this.nodes = film.nodes;
    this.tick = film.tick;
    const whole = fork || film;
    this.violation = whole.violation;
    this.ended = whole.ended;
    this.moments = fork ? film.moments.slice(0, fork.same_moments).concat(fork.moments) : film.moments;
    this.messages = fork ? film.messages.slice(0, fork.same_messages).concat(fork.messages) : film.messages;
    this.entries = fork ? Object.assign({}, film.entries, fork.entries) : film.entries;
    this.readStates();
    this.readMessages();
    this.readMarks();
  }

  get last() {
    return this.moments.length - 1;
  }

  readStates() {
    this.history = new Map();
    for (const node of this.nodes) {
      this.history.set(node, {at: [-1], states: [Object.assign({up: false}, this.film.base[node])]});
    }
    this.cuts = {at: [-1], links: [[]]};
    this.moments.forEach((moment, place) => {
      for (const [node, changes] of Object.entries(moment[5])) {
        const past = this.history.get(Number(node));
        past.at.push(place);
        past.states.push(Object.assign({}, past.states[past.states.length - 1], changes));
      }
      if (moment[6]) {
        this.cuts.at.push(place);
        this.cuts.links.push(moment[6]);
      }
    });
  }

  /* What a node is after a moment; moment -1 is before the first. */
  state(node, place) {
    const past = this.history.get(node);
    return past.states[Math.max(0, countUpTo(past.at, place) - 1)];
  }

  links(place) {
    return this.cuts.links[Math.max(0, countUpTo(this.cuts.at, place) - 1)];
  }

  readMessages() {
    this.sentIn = this.messages.map((message) => message[5]);
    this.endedIn = new Map();
    this.alive = [];
    let living = [];
    let next = 0;
    for (let start = 0; start <= this.last; start += BLOCK) {
      while (next < this.messages.length && this.sentIn[next] < start) living.push(next++);
      living = living.filter((number) => this.isUnderWay(number, start - 1));
      this.alive.push(living.slice());
    }
    this.messages.forEach((message, number) => {
      if (message[7] >= 0) {
        if (!this.endedIn.has(message[7])) this.endedIn.set(message[7], []);
        this.endedIn.get(message[7]).push(number);
      }
    });
  }

  isUnderWay(number, place) {
    const message = this.messages[number];
    return message[5] <= place && (message[7] === -2 || message[7] > place);
  }

  /* Places of the messages that were sent in these moments. */
  sent(first, last) {
    const numbers = [];
    for (let number = countUpTo(this.sentIn, first - 1); number < this.messages.length; number++) {
      if (this.sentIn[number] > last) break;
      numbers.push(number);
    }
    return numbers;
  }

  arrivals(place) {
    return this.endedIn.get(place) || [];
  }

  /* Places of the messages that are on their way after a moment. */
  underWay(place) {
    if (place < 0) return [];
    const block = Math.floor(place / BLOCK);
    const found = this.alive[block].concat(this.sent(block * BLOCK, place));
    return found.filter((number) => this.isUnderWay(number, place));
  }

  readMarks() {
    this.marks = {election: [], commit: [], crash: [], broken: []};
    this.loud = [];
    this.stories = {at: [-1], texts: [""]};
    let commit = Math.max(0, ...this.nodes.map((node) => this.film.base[node].commit || 0));
    this.moments.forEach((moment, place) => {
      let highest = commit;
      for (const [node, changes] of Object.entries(moment[5])) {
        if (changes.role === "leader") this.mark("election", place);
        if (changes.up === false && this.state(Number(node), place - 1).up) this.mark("crash", place);
        if (changes.commit > highest) highest = changes.commit;
      }
      const told = story(moment);
      if (told) {
        this.stories.at.push(place);
        this.stories.texts.push(told);
      }
      if (highest > commit) this.mark("commit", place);
      commit = highest;
      if (!this.isQuiet(moment)) this.loud.push(place);
    });
    if (this.violation && this.last >= 0) {
      this.mark("broken", this.last);
      if (this.loud[this.loud.length - 1] !== this.last) this.loud.push(this.last);
    }
  }

  /* The last comment of a script up to a moment. */
  story(place) {
    return this.stories.texts[Math.max(0, countUpTo(this.stories.at, place) - 1)];
  }

  mark(kind, place) {
    const marks = this.marks[kind];
    if (marks[marks.length - 1] !== place) marks.push(place);
  }

  /* A heartbeat, its answer, a tick or a write that changes nothing that anybody asks about. */
  isQuiet(moment) {
    if (moment[3] >= 0 || moment[6]) return false;
    for (const changes of Object.values(moment[5])) {
      for (const field of Object.keys(changes)) if (!QUIET_FIELDS.has(field)) return false;
    }
    return moment[4].every(([, text]) => text.includes(" MsgHeartbeat"));
  }
}

/* The term of an entry in a node's log: log is [first, last, [[index, term], …]]; 0 if it isn't there. */
function termAt(log, index) {
  if (!log || index < log[0] || index > log[1]) return 0;
  let term = 0;
  for (const [begin, ofTerm] of log[2]) {
    if (begin > index) break;
    term = ofTerm;
  }
  return term;
}
