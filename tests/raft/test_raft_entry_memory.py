"""What an entry costs in memory, counted by tracemalloc."""

from __future__ import annotations

import random
import tracemalloc

from raft import Config, ConfState, MemoryStorage, RawNode

ENTRIES = 100_000
PAYLOAD_BYTES = 100


def test_an_entry_in_the_log_costs_at_most_half_of_its_payload_more_and_100_bytes() -> None:
    """A leader alone, its log in memory; with the payload, which the log keeps. Encoding an entry keeps nothing."""
    storage = MemoryStorage(ConfState((1,)))
    node = RawNode(Config(id=1, election_tick=10, heartbeat_tick=1, storage=storage, rng=random.Random(1)))

    def settle() -> None:
        while node.has_ready():
            ready = node.ready()
            for entry in ready.entries:
                entry.encode()
            storage.append(ready.entries)
            node.advance()

    node.campaign()
    settle()
    tracemalloc.start()
    try:
        for start in range(0, ENTRIES, 1_000):
            node.propose_batch(
                [number.to_bytes(4, "big").ljust(PAYLOAD_BYTES) for number in range(start, start + 1_000)]
            )
            settle()
        cost_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert node.commit_index == storage.last_index() == ENTRIES + 1
    assert cost_bytes / ENTRIES <= 1.5 * PAYLOAD_BYTES + 100
