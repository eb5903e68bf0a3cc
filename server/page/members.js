/* Beside the cluster's picture: the members as a table, and what happened, newest first.

   The table has what the picture can't: how far the leader knows each log to agree with its own (`progress`, which only a
   leader has), and in which state it sends to it, as raft/tracker names them. */

import {count, h, keyed, picture, plural, say} from "./svg.js";

const NEWS_MAX = 14;
const COLUMNS = ["node", "engine", "role", "term", "voted for", "last", "committed", "applied", "the leader knows of", "sends"];

/** {root, draw(nodes, leader)}: a row for each node of the ring. */
export function membersTable() {
  const box = picture({
    id: "members", title: "Members", chapter: [16, "Raft: replication and commit"],
    what: "What each node says about itself, and how far the leader knows its log to agree with its own. "
      + "A follower that is probed is asked where the logs part; one in state replicate is sent entries ahead of its answers.",
  });
  const rows = h("tbody");
  box.body.classList.add("wide");
  box.body.append(h("table", {class: "members"}, h("thead", {}, h("tr", {}, ...COLUMNS.map((name, n) => h("th", {scope: "col", class: n > 2 && n < 9 ? "number" : ""}, name)))), rows));
  const draw = (nodes, leader) => keyed(rows, nodes, (node) => node.key, () => h("tr", {}, h("th", {scope: "row"}), ...COLUMNS.slice(1).map((_, n) => h("td", {class: n > 1 && n < 8 ? "number" : ""}))), (row, {id, node, key}) => {
    const raft = node?.frame?.raft;
    const seen = leader?.frame.raft.progress?.[key];
    const kind = leader?.frame.raft.members?.[key];
    const told = [id ?? key, node?.engine ?? "–", node?.live ? (kind === "learner" ? "learner" : raft?.role ?? "–") : node?.state ?? "–", count(raft?.term), raft?.vote || "–",
      count(raft?.last), count(raft?.commit), count(raft?.applied), seen ? count(seen.match) : leader && leader.id === id ? "leads" : "–",
      seen ? `${seen.state}${seen.inflight ? `, ${plural(seen.inflight, "message")} in flight` : ""}${seen.active ? "" : ", not heard"}` : ""];
    told.forEach((value, n) => say(row.children[n], String(value)));
  });
  return {root: box.root, draw};
}

/** {root, draw(world)}: the events of all nodes. */
export function newsList() {
  const box = picture({
    id: "news", title: "What happened", chapter: [18, "A replicated store"],
    what: "Changes of role, snapshots, and what the engines do in the background, as the nodes tell of them. "
      + "The newest stands on top.",
  });
  const list = h("ol", {class: "news"});
  box.body.append(list);
  let drawn = -1;
  const draw = (world) => {
    const news = world.nodes.flatMap((node) => node.events.slice(-NEWS_MAX).map(({at, event}, n) => ({at, event, node, n})));
    news.sort((a, b) => b.at - a.at || b.n - a.n);
    const version = news.reduce((sum, {at}) => sum + at, news.length);
    if (version === drawn) return;
    drawn = version;
    say(box.note, news.length ? "" : "Nothing since this page was opened.");
    list.replaceChildren(...news.slice(0, NEWS_MAX).map(({event, node}) => h("li", {}, h("b", {}, node.name), " ", words(event))));
  };
  return {root: box.root, draw};
}

/** An event of the feed as a sentence: ["role", "follower", "leader", 1, 3] has the leader and the term; of the others, their name and their fields. */
function words([kind, ...told]) {
  if (kind === "role") return `was ${told[0]}, is ${told[1]} in term ${count(told.at(-1))}`;
  const fields = told.map((value) => (value !== null && typeof value === "object"
    ? Object.entries(value).map(([name, each]) => `${name.replaceAll("_", " ")} ${Array.isArray(each) ? each.length : each}`).join(", ") : String(value)));
  return `${kind.replaceAll("_", " ")}${fields.length ? ": " : ""}${fields.join(", ")}`;
}
