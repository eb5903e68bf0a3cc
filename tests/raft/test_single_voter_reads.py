"""Reads at a leader that is alone, right after its restart."""

import random

from raft import Config, ConfState, Entry, HardState, MemoryStorage, RawNode


def test_a_restarted_single_voter_answers_no_read_before_its_terms_first_commit() -> None:
    """Its commit index may be older than what it acknowledged: a commit index that changed alone isn't synced.

    Reading at that index would miss acknowledged writes; etcd-io/raft answers a single voter's reads at once.
    """
    storage = MemoryStorage(ConfState(voters=(1,)))
    storage.append([Entry(1, index, data=b"acknowledged") for index in (1, 2, 3)])
    storage.set_hard_state(HardState(term=1, vote=1, commit=1))
    node = RawNode(Config(id=1, election_tick=10, heartbeat_tick=1, storage=storage, rng=random.Random(0)))
    node.campaign()
    read_states = []
    node.read_index(b"while a candidate")
    for _ in range(10):
        if node.raft.lead == 1:
            node.read_index(b"as the leader")
        if not node.has_ready():
            break
        ready = node.ready()
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        read_states += ready.read_states
        node.advance()
    assert read_states, "a single voter confirms its reads by itself"
    assert min(state.index for state in read_states) >= 4
