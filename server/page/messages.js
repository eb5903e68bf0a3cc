/* The kinds of Raft's messages, and the shape of each: a shape for what it is about, filled for what asks, hollow for what
   answers. raft/kinds.py names the types as etcd does. */

const CIRCLE = "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0";

/** kind -> {name, path: around (0, 0), words}. */
export const KINDS = {
  append: {name: "append", path: CIRCLE, words: "entries"},
  heartbeat: {name: "heartbeat", path: "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", words: "heartbeat"},
  vote: {name: "vote", path: "M0 -7L7 0L0 7L-7 0Z", words: "asks for a vote"},
  snapshot: {name: "snapshot", path: "M-6 -6H6V6H-6Z", words: "snapshot"},
  forward: {name: "forward", path: "M0 -6L6 5H-6Z", words: "a request, passed on to the leader"},
};

const TYPES = {
  MsgApp: "append", MsgAppResp: "append", MsgHeartbeat: "heartbeat", MsgHeartbeatResp: "heartbeat",
  MsgVote: "vote", MsgVoteResp: "vote", MsgPreVote: "vote", MsgPreVoteResp: "vote", MsgTimeoutNow: "vote", MsgTransferLeader: "vote",
  MsgSnap: "snapshot", MsgSnapStatus: "snapshot", MsgProp: "forward", MsgReadIndex: "forward", MsgReadIndexResp: "forward",
};

/** "MsgAppResp" as {kind: "append", answer: true}; a type that isn't known is shown as a heartbeat's size of dot. */
export function shapeOf(type) {
  return {kind: TYPES[type] ?? "heartbeat", answer: type.endsWith("Resp")};
}
