/* What happened in a moment, and how a run ended, in sentences. */

const ROLES = {"leader": "leads", "candidate": "is a candidate", "pre-candidate": "asks before it campaigns", "follower": "follows"};

function when(run, moment) {
  return run.tick === 1 ? "" : ` · tick ${(moment[0] / run.tick).toFixed(3)}`;
}

function short(type) {
  return type.replace(/^Msg/, "");
}

/* What a message is, in a few words. */
function told(run, number) {
  const [source, target, type] = run.messages[number];
  return `${type} ${source} → ${target}`;
}

function headline(run, place) {
  const moment = run.moments[place];
  if (moment === undefined) return "before the first step";
  const [, node, kind, , lines, changes] = moment;
  const arrived = run.arrivals(place);
  switch (kind) {
    case "starts": {
      const nodes = Object.keys(changes);
      return nodes.length > 1 ? `Nodes ${nodes.join(", ")} start` : `Node ${node} starts`;
    }
    case "crash": return `Node ${node} crashes`;
    case "receives": return `Node ${node} gets ${told(run, arrived[0] ?? 0).replace(/ → \d+$/, "").replace(/ (\d+)$/, " from node $1")}`;
    case "lost": return `${told(run, arrived[0] ?? 0)} is lost`;
    case "tick": return changes[node] && changes[node].role ? `Node ${node} has heard no leader for too long` : `Node ${node}'s clock ticks`;
    case "disk": return `Node ${node}'s write is done`;
    case "writes": return `Node ${node} writes`;
    case "applies": return `Node ${node} applies entries`;
    case "propose": return `A client proposes something to node ${node}`;
    case "read": return `A client asks node ${node} for a read`;
    case "partition": return "Links are cut";
    case "healed": return "All links are whole again";
    case "cut": return "Links are cut";
    case "pause": return `Node ${node} pauses`;
    case "slow disk": return `Node ${node}'s disk gets slow`;
    case "snapshot": return `Node ${node} takes a snapshot`;
    case "change": return `Node ${node} is asked to change the members`;
    case "lose disk": return "A disk is lost";
    case "campaign": return `Node ${node} is told to campaign`;
    case "transfer": return `Node ${node} is told to hand over the leadership`;
    case "forget leader": return `Node ${node} is told to forget its leader`;
    case "calm": return "The faults are over: everything is up, connected and quick";
    case "operator": return "What an operator has to do";
    case "asks": return `Node ${node} asks to be let in again`;
    case "asked": return `Node ${node} is asked to let a node in again`;
    case "does": return lines.length ? lines[0][1] : "";
    case "command": return (lines.find(([, text]) => !text.startsWith("#")) || [0, ""])[1];
    default: return node ? `Node ${node}` : "The run";
  }
}

/* A script's comments above a command, as a text. */
function story(moment) {
  return moment[4].filter(([, text]) => text.startsWith("#")).map(([, text]) => text.replace(/^#+ ?/, "")).join(" ");
}

/* What the moment changed, a sentence for each. */
function effects(run, place) {
  const moment = run.moments[place];
  if (moment === undefined) return [];
  const told = [];
  for (const [id, changes] of Object.entries(moment[5])) {
    const node = Number(id);
    const was = run.state(node, place - 1);
    const name = `node ${node}`;
    if (changes.up === false) told.push(`${name} is down`);
    if (changes.up === true) continue;
    if (changes.role) told.push(`${name} ${ROLES[changes.role]}`);
    if (changes.term !== undefined) told.push(`${name} goes from term ${was.term} to ${changes.term}`);
    if (changes.vote) told.push(`${name} votes for ${changes.vote === node ? "itself" : `node ${changes.vote}`}`);
    if (changes.lead) told.push(changes.lead === node ? "" : `${name} takes node ${changes.lead} for its leader`);
    if (changes.log) told.push(`${name}'s log ${logTold(was.log, changes.log)}`);
    if (changes.disk !== undefined && changes.disk > (was.disk || 0)) told.push(`${name} has entries up to ${changes.disk} on its disk`);
    if (changes.commit !== undefined) told.push(`${name} knows entries up to ${changes.commit} as committed`);
    if (changes.applied !== undefined && changes.up === undefined) told.push(`${name} has applied up to ${changes.applied}`);
    if (changes.snapshot) told.push(`${name} has a snapshot at ${changes.snapshot}`);
    if (changes.voters) told.push(`${name} counts ${changes.voters.join(", ")} as voters`);
    if (changes.paused) told.push(`${name} does nothing until tick ${changes.paused / run.tick}`);
  }
  if (moment[6] && moment[6].length) told.push(`cut: ${moment[6].map(([a, b]) => `${a} → ${b}`).join(", ")}`);
  for (const number of run.arrivals(place)) {
    if (run.messages[number][8] === LOST && moment[2] !== "lost") told.push(`${run.messages[number][2]} to node ${run.messages[number][1]} is lost`);
    if (run.messages[number][8] === DROPPED) told.push(`message ${number + 1}, ${run.messages[number][2]} to node ${run.messages[number][1]}, is dropped by you`);
  }
  return told.filter(Boolean);
}

function logTold(was, now) {
  const [first, last] = now;
  if (!was || was[1] < was[0]) return last < first ? "is empty" : `has entries ${first} to ${last}`;
  if (first > was[0] && last === was[1]) return `begins at ${first}: what was before is in a snapshot`;
  let same = Math.min(was[1], last);
  while (same >= Math.max(first, was[0]) && termAt(was, same) !== termAt(now, same)) same--;
  if (same < Math.min(was[1], last)) return `has other entries from ${same + 1} on: those of an old leader are gone`;
  return last > was[1] ? `grows to ${last}` : `ends at ${last}`;
}

/* How a run ended, in a sentence. */
function endTold(run) {
  if (run.violation) return run.tick === 1 ? rule(run.violation) : `${rule(run.violation)} is broken`;
  const {leader, term, commit, elections} = run.ended;
  if (term === undefined) return "";
  const leads = leader ? `node ${leader} leads at the end, in term ${term}` : `nobody leads at the end, in term ${term}`;
  return `${run.tick === 1 ? "" : "no property is broken; "}${leads}, after ${elections} ${elections === 1 ? "election" : "elections"}; ${commit} entries are committed`;
}

function rule(violation) {
  return violation.split(":")[0];
}

/* A fork in a few words: what is taken away from the run. */
function forkTold(film, fork) {
  if (fork.kind === "drop") {
    const [source, target, type, , at] = film.messages[fork.number - 1];
    return `message ${fork.number} is dropped (${type} ${source} → ${target}, sent at tick ${(at / film.tick).toFixed(1)})`;
  }
  const [kind, at] = film.steps[fork.number];
  return `step ${fork.number} is left out (${kind}, at tick ${(at / film.tick).toFixed(1)})`;
}

/* The command line that plays the run with one thing less, beyond what it leaves out already. */
function command(film, kind, number) {
  const dropped = film.dropped.concat(kind === "drop" ? [number] : []);
  const skipped = film.skipped.concat(kind === "skip" ? [number] : []);
  let words = film.words;
  if (skipped.length) words += ` --skip ${skipped.join(",")}`;
  if (dropped.length) words += ` --drop ${dropped.join(",")}`;
  return `${words} --html other.html`;
}
