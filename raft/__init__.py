"""Raft, in the shape of etcd-io/raft: a pure state machine that leaves disk, network and clock to its driver."""
