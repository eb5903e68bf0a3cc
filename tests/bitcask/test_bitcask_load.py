"""A load leaves the old content or the new one."""

from __future__ import annotations

import random

from engines.simenv import Call, Policy, SimEnv
from tests.bitcask.riak_files import content, open_sim


def test_a_load_that_a_killed_process_left_is_finished_whatever_happens() -> None:
    """Its list may be in the page cache only; the power is cut after every call of the opening that finishes it."""
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"old", b"1")
    left: list[SimEnv] = []

    def kill(call: Call) -> None:
        if call.kind == "rename" and call.path.endswith("bitcask.metcd.load"):
            left.append(env.crash(Policy.EVERYTHING, random.Random(0)))

    with open_sim(env) as store:
        env.after_call = kill
        store.load([(b"new", b"2")])
    [killed] = left
    images: list[SimEnv] = []

    def cut(call: Call) -> None:
        images.extend(killed.crash(policy, random.Random(f"{call} {n}")) for policy in Policy for n in range(4))

    killed.after_call = cut
    open_sim(killed).close()
    killed.after_call = None
    found = [content(image) for image in images]
    assert all(each in ({b"old": b"1"}, {b"new": b"2"}) for each in found)
    assert content(killed) == {b"new": b"2"}
