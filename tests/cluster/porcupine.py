"""Histories as porcupine's test data has them, judged by search.py: `python -m tests.cluster.porcupine FILE ...`.

    INFO  jepsen.util - 4   :invoke :cas    [3 0]          a register, as Jepsen logs it (test_data/jepsen)
    INFO  jepsen.util - 4   :ok     :cas    [3 0]          :fail :cas compared and was wrong
    INFO  jepsen.util - 2   :info   :write  :timed-out     nobody knows whether it was done

    {:process 0, :type :invoke, :f :append, :key "1", :value "x"}      a store that appends (test_data/kv)
    {:process 0, :type :ok, :f :append, :key "1", :value "x"}

Time is the number of the line. The files themselves are porcupine's, and are not here: its etcd_*.log are of an etcd of 2014
whose reads were local, and 79 of the 102 that can be used are not linearizable. Prints a line for each file; exit code 1 if
one is not linearizable, 2 if one can't be decided.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.history import UNKNOWN
from tests.cluster.search import APPEND, REGISTER, Event, Model, Undecided, linearizable

__all__ = ["judge_text", "main", "parse"]

_JEPSEN = re.compile(r"jepsen\.util - (\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.+)$")
_KV = re.compile(r'\{:process (\d+), :type :(invoke|ok), :f :(get|put|append), :key "(.*)", :value (nil|".*")\}$')


def parse(text: str) -> tuple[Model, Mapping[str, list[Event]]]:
    """The model that a file is about, and its events, key by key (one key for a register)."""
    model = REGISTER
    calls: dict[str, tuple[int, str, str, str]] = {}  # process → when, what, key, argument
    events: defaultdict[str, list[Event]] = defaultdict(list)
    for at, line in enumerate(text.splitlines()):
        if found := _JEPSEN.search(line):
            process, kind, what, argument = found.groups()
            key = ""
        elif found := _KV.search(line):
            process, kind, what, key, argument = found.groups()
            model = APPEND
        else:
            continue
        if kind == "invoke":
            calls[process] = (at, what, key, argument)
        elif kind != "info" and process in calls:
            called, _, _, asked = calls.pop(process)
            if not (kind == "fail" and what != "cas"):  # a read that failed has seen nothing
                events[key].append(Event((what, _meant(what, kind, asked, argument)), called, at))
    for called, what, key, asked in calls.values():
        if what not in ("read", "get"):
            events[key].append(Event((what, _meant(what, "info", asked, "")), called, UNKNOWN))
    return model, events


def _meant(what: str, kind: str, asked: str, answered: str) -> Any:
    """What the model wants to know of an operation."""
    if what == "cas":
        expected, new = map(int, asked.strip("[]").split())
        return expected, new, {"ok": True, "fail": False}.get(kind)
    if what in ("put", "append", "get"):
        return (answered if what == "get" else asked).strip('"')
    told = answered if what == "read" else asked
    return None if told == "nil" else int(told)


def judge_text(text: str) -> bool:
    """Whether a file's history is linearizable. Raises Undecided, and ValueError if it has none."""
    model, keys = parse(text)
    if not keys:
        raise ValueError("no line of it is a history's")
    return all(linearizable(events, model) for events in keys.values())


def main(arguments: Sequence[str]) -> int:
    worst = 0
    for name in arguments:
        try:
            good = judge_text(Path(name).read_text())
            print(f"{name}: {'linearizable' if good else 'NOT linearizable'}")
            worst = max(worst, not good)
        except Undecided as error:
            print(f"{name}: undecided: {error}")
            worst = 2
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
