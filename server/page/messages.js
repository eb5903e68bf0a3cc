/* The kinds of Raft's messages, and the shape of each: a shape for what it is about, filled for what asks, hollow for what
   answers. raft/kinds.py names the types as etcd does; style.css draws the shapes. */

/** kind -> what the legend says. */
export const KINDS = {
  append: "entries",
  heartbeat: "heartbeat",
  vote: "asks for a vote",
  snapshot: "snapshot",
  forward: "a request, passed on to the leader",
};

const TYPES = {
  MsgApp: "append", MsgAppResp: "append", MsgHeartbeat: "heartbeat", MsgHeartbeatResp: "heartbeat",
  MsgVote: "vote", MsgVoteResp: "vote", MsgPreVote: "vote", MsgPreVoteResp: "vote", MsgTimeoutNow: "vote", MsgTransferLeader: "vote",
  MsgSnap: "snapshot", MsgSnapStatus: "snapshot", MsgProp: "forward", MsgReadIndex: "forward", MsgReadIndexResp: "forward",
};

/** "MsgAppResp" as {kind: "append", answer: true}; a type that isn't known has the smallest shape. */
export function shapeOf(type) {
  return {kind: TYPES[type] ?? "heartbeat", answer: type.endsWith("Resp")};
}

/** The classes of its shape. */
export const shape = (kind, answer) => `shape ${kind}${answer ? " reply" : ""}`;
