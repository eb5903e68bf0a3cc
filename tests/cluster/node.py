"""`python -m tests.cluster.node`: a real node (`metcd serve`), on a disk that can be broken, and with a bug if one is asked for.

    python -m tests.cluster.node --control FILE [--record FILE] [--tick 0.05] [--plant BUG] serve --id 1 --cluster … --data …

--record: each write that is applied leaves a line: its index, key and value. A write whose client heard nothing gets its
index from there.

The words from `serve` on go to `metcd` as they are. Nothing of this is in server/: the node that runs is the one that
people run, in which one object (its Env) or, for a planted bug, one function was replaced. Bugs are planted in the plain form
(METCD_PLAIN=1), where a call is one function. A checker that doesn't notice the
bugs is none:

| --plant      | what the node does                                                       | who does the same            |
|--------------|--------------------------------------------------------------------------|------------------------------|
| early-ack    | answers a write when it is proposed, not when it is committed            | raftexample                  |
| local-read   | reads what is applied here, and calls that linearizable                  | etcd before ReadIndex        |
| lost-write   | acknowledges every 40th write and doesn't apply it, on all nodes alike   | an apply that skips an error |
| double-apply | applies a retried request again, as if it were new (server/sessions)     | a store without sessions     |
| lost-txn     | answers every 40th entry, if it is of /v3 and not of a lock, undone       | an apply that skips an error |
| open-lock    | gives a lock to everybody who asks                                        | a queue that nobody looks at |
| deaf-keeper  | answers keepalives, and lets the leases end as if there had been none     | a clock that runs too fast   |

The last three are found by clients of /v3 alone: of its transactions (PLANTS_IN_V3), of its locks (PLANTS_IN_LOCKS).
"""

from __future__ import annotations

import argparse
import heapq
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from server import cli, waits
from server.config import NodeConfig
from server.evaluation import Request
from server.proposal_bytes import decode_put
from server.proposals import Proposal
from server.sessions import Serial, Sessions
from server.statemachine_fast import FastMachine
from server.v3.concurrency import Client
from server.v3.etcd import Etcd
from server.v3.lease_keeper import LeaseKeeper
from server.verbs import nodes
from tests.cluster.control import controlled_env

__all__ = ["ALL", "PLANTS", "PLANTS_IN_LOCKS", "PLANTS_IN_V3", "main"]

LOST_EVERY = 40
OF_TRANSACTIONS = re.compile(rb"t\d{5}/")  # a key of tests/cluster/txn_history.py


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a node as the words say."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.node")
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    parser.add_argument(
        "--tick", type=float, default=NodeConfig.tick_s, help="seconds (default: %(default)s, as metcd serve)"
    )
    parser.add_argument("--plant", choices=sorted(ALL))
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    nodes.NodeConfig = partial(NodeConfig, env=controlled_env(options.control), tick_s=options.tick)  # type: ignore
    if options.record:
        record(options.record)
    if options.plant:
        ALL[options.plant]()
        print(f"planted: {options.plant}", flush=True)
    return cli.main(options.words)


def record(path: Path) -> BinaryIO:
    """Has every write of one operation written down as it is applied, in one write of the operating system.

    A simple put of the fast form (server/statemachine_fast.py) goes past the sessions. Returns the open file.
    """
    admit, put = Sessions.admit, FastMachine._put
    file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(index: int, key: bytes, value: bytes | None) -> None:
        file.write(b"%d %b %b\n" % (index, key.hex().encode(), b"-" if value is None else value.hex().encode()))

    def recording(self: Any, index: int, proposed: Any) -> Any:
        outcome, operations = admit(self, index, proposed)
        if len(operations) == 1 and not isinstance(operations[0], Request):
            write(index, *operations[0])
        return outcome, operations

    def recording_put(self: Any, entry: Any, writes: Any) -> Any:
        done = put(self, entry, writes)
        if done is not None and (simple := decode_put(entry.data)) is not None:
            write(entry.index, *simple[2:])
        return done

    Sessions.admit, FastMachine._put = recording, recording_put  # type: ignore[method-assign]
    return file


def early_ack() -> None:
    """As raftexample: a PUT is answered once it is in the channel to Raft."""

    wait = waits.Waits.propose

    def propose(self: Any, operations: Any, timeout_s: float = 5.0) -> int:
        if isinstance(operations[0], Serial):  # raftexample has no sessions
            return wait(self, operations, timeout_s)
        self._asked.require_member()
        if not self._asked.leader():
            raise waits.NoLeader("no leader is known")
        _, data = self._proposals.add(operations, None)
        self._asked.propose(Proposal(data, self._asked.now() + timeout_s))
        early_ack.index += 1  # type: ignore[attr-defined]
        return int(early_ack.index)  # type: ignore[attr-defined]

    early_ack.index = os.getpid() << 32  # type: ignore[attr-defined]  # it has none yet
    waits.Waits.propose = propose  # type: ignore[method-assign]


def local_read() -> None:
    """No round in which a leader is confirmed."""
    barrier = waits.Waits.read_barrier

    def read_barrier(self: Any, consistency: str = "linearizable", timeout_s: float = 5.0) -> int:
        return barrier(self, "stale", timeout_s)

    waits.Waits.read_barrier = read_barrier  # type: ignore[method-assign]


def lost_write() -> None:
    """Which entries are passed over follows from their index, so that all nodes agree, and no divergence shows it."""
    admit = Sessions.admit

    def lossy(self: Any, index: int, proposed: Any) -> Any:
        outcome, operations = admit(self, index, proposed)
        lost = index % LOST_EVERY == 0 and operations and not isinstance(operations[0], Request)
        return outcome, () if lost else operations

    Sessions.admit = lossy  # type: ignore[method-assign]


def double_apply() -> None:
    """It remembers what it answered the first time, answers the same, and does it again."""
    admit = Sessions.admit

    def forgetful(self: Any, index: int, proposed: Any) -> Any:
        outcome, operations = admit(self, index, proposed)
        again = isinstance(outcome, int) and outcome < index
        return outcome, proposed[1:] if again else operations

    Sessions.admit = forgetful  # type: ignore[method-assign]


def lost_txn() -> None:
    """As lost_write, for what the clients of transactions ask. (If a lock is lost, their own judge finds it first.)"""
    evaluate = Etcd.evaluate

    def lossy(self: Any, index: int, term: int, data: bytes, writes: Any) -> Any:
        answer = evaluate(self, index, term, data, writes)
        if index % LOST_EVERY == 0 and OF_TRANSACTIONS.search(data):
            writes.undo()
        return answer

    Etcd.evaluate = lossy  # type: ignore[method-assign]


def open_lock() -> None:
    """Nobody waits for those who came before."""
    Client.wait_until_first = lambda self, prefix, revision: None  # type: ignore[method-assign]


def deaf_keeper() -> None:
    """A keepalive is answered, and the lease ends when it would have without it."""
    renew = LeaseKeeper.renew

    def deaf(self: Any, lease: int, renewed: Any) -> None:
        deadline = self._deadlines.get(lease)
        renew(self, lease, renewed)
        if deadline is not None and lease in self._deadlines:
            self._deadlines[lease] = deadline
            heapq.heappush(self._queue, (deadline, lease))

    LeaseKeeper.renew = deaf  # type: ignore[method-assign]


PLANTS_IN_V3 = {"lost-txn": lost_txn}
PLANTS_IN_LOCKS = {"open-lock": open_lock, "deaf-keeper": deaf_keeper}
PLANTS: dict[str, Callable[[], None]] = {
    "early-ack": early_ack,
    "local-read": local_read,
    "lost-write": lost_write,
    "double-apply": double_apply,
}

ALL = PLANTS | PLANTS_IN_V3 | PLANTS_IN_LOCKS

if __name__ == "__main__":
    sys.exit(main())
