"""Is a history linearizable? The slow way, which is told no order: Wing and Gong's search with Lowe's memory.

    entries   call 1 ─ call 2 ─ end 1 ─ call 3 ─ end 3 ─ end 2        a doubly linked list, by time

Whatever was called before the first end in the list may have been done first. Take one whose answer is right in the state
so far out of the list (with its end), and go on from the front; if none is left before an end, undo the last one and try
its successor. Which operations were taken, and the state after them, is remembered: the same pair leads to the same place
again. An operation whose outcome is unknown has no end, so it never has to be taken.

What it judges is a model: a state to begin with, and a function that says whether an operation may be answered so in a state, and
what the state is then. Keys that don't depend on each other are judged one by one (P-compositionality): a history of many
keys is `partition`ed. The search is exponential in the worst case, so it has a budget; who runs out of it has decided
nothing, and Undecided is no pass.

Follows Wing and Gong (1993), Lowe (2017), and porcupine, whose register and key-value models are here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.cluster.history import UNKNOWN, Op, observations

__all__ = ["APPEND", "CELL", "REGISTER", "Event", "Model", "Undecided", "linearizable", "partition"]

STEPS_MAX = 2_000_000


class Undecided(Exception):
    """The budget is used up."""


@dataclass(frozen=True, slots=True)
class Event:
    """One operation as the search sees it: anything that the model understands, when it was called, and answered."""

    what: Any
    called: float
    answered: float = UNKNOWN


State = Hashable


@dataclass(frozen=True, slots=True)
class Model:
    """first: the state to begin with. step(state, what): whether it may be so, and the next state."""

    first: State
    step: Callable[[Any, Any], tuple[bool, State]]


class _Entry:
    """A call or an end in the list of what is not taken yet."""

    __slots__ = ("bit", "event", "match", "next", "previous")

    def __init__(self, event: Event, bit: int) -> None:
        self.event = event
        self.bit = bit
        self.match: _Entry | None = None  # of a call: its end
        self.previous: _Entry | None = None
        self.next: _Entry | None = None


def linearizable(events: Sequence[Event], model: Model, steps_max: int = STEPS_MAX) -> bool:
    """Whether some order explains the events. Raises Undecided after `steps_max` steps."""
    head, ends = _entries(events)
    taken = 0
    state = model.first
    seen: set[tuple[int, State]] = set()
    undo: list[tuple[_Entry, State]] = []
    entry = head.next
    steps = 0
    while ends:
        steps += 1
        if steps > steps_max:
            raise Undecided(f"{len(events)} operations were not decided in {steps_max:,} steps")
        if entry is not None and entry.bit:  # a call
            fits, then = model.step(state, entry.event.what)
            if fits and (taken | entry.bit, then) not in seen:
                seen.add((taken | entry.bit, then))
                undo.append((entry, state))
                taken, state = taken | entry.bit, then
                ends -= entry.match is not None
                _lift(entry)
                entry = head.next
            else:
                entry = entry.next
        elif not undo:
            return False
        else:
            entry, state = undo.pop()
            taken &= ~entry.bit
            ends += entry.match is not None
            _unlift(entry)
            entry = entry.next
    return True


def _entries(events: Sequence[Event]) -> tuple[_Entry, int]:
    """The list's head, and how many ends it has. At one time, calls come before ends: they overlap."""
    times: list[tuple[float, int, int, _Entry]] = []
    ends = 0
    for number, event in enumerate(events):
        call = _Entry(event, 1 << number)
        times.append((event.called, 0, number, call))
        if event.answered != UNKNOWN:
            call.match = _Entry(event, 0)
            times.append((event.answered, 1, number, call.match))
            ends += 1
    head = last = _Entry(Event(None, 0.0), 0)
    for *_, entry in sorted(times, key=lambda each: each[:3]):
        last.next, entry.previous = entry, last
        last = entry
    return head, ends


def _lift(call: _Entry) -> None:
    for entry in (call,) if call.match is None else (call, call.match):
        assert entry.previous is not None
        entry.previous.next = entry.next
        if entry.next is not None:
            entry.next.previous = entry.previous


def _unlift(call: _Entry) -> None:
    for entry in (call,) if call.match is None else (call.match, call):
        assert entry.previous is not None
        entry.previous.next = entry
        if entry.next is not None:
            entry.next.previous = entry


# ---- models ---------------------------------------------------------------------------------------------------------


def _cell(state: bytes | None, what: tuple[str, bytes | None]) -> tuple[bool, bytes | None]:
    kind, value = what
    return (True, value) if kind == "write" else (value == state, state)


def _register(state: int | None, what: tuple[str, Any]) -> tuple[bool, int | None]:
    kind, arguments = what
    if kind == "write":
        return True, arguments
    if kind == "read":
        return arguments == state, state
    expected, new, outcome = arguments
    if outcome is None:  # nobody knows: it has compared, and may have set
        return True, new if expected == state else state
    return outcome == (expected == state), new if outcome else state


def _append(state: str, what: tuple[str, str]) -> tuple[bool, str]:
    kind, text = what
    if kind == "get":
        return text == state, state
    return True, text if kind == "put" else state + text


CELL = Model(None, _cell)  # ("write", value or None), ("read", value or None): one key of our store
REGISTER = Model(None, _register)  # ("write", n), ("read", n or None), ("cas", (expected, new, outcome))
APPEND = Model("", _append)  # ("put" | "append" | "get", text)


def partition(history: Iterable[Op]) -> Mapping[bytes, list[Event]]:
    """A history of our store as events for CELL, key by key; a scan is a read of each key that it is about."""
    ops = [op for op in history if op.writes or op.answered != UNKNOWN]
    keys = {op.key for op in ops if op.writes}
    parts: defaultdict[bytes, list[Event]] = defaultdict(list)
    for op in ops:
        if op.writes:
            parts[op.key].append(Event(("write", op.value), op.called, op.answered))
        else:
            for key, value in observations(op, keys):
                parts[key].append(Event(("read", value), op.called, op.answered))
    return parts
