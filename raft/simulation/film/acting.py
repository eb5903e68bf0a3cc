"""Which lines of the library acted: the functions that an event went through, and the lines that changed the node.

    peer.node.step(message)
      └─ RawNode.step ─ Raft.step ─ Raft.settle_term ─ Core.become_follower ─ Core.enter_term
                                                                               └ line 163: term 2 → 3

A node that is watched has a class of its own, below `RawNode`, whose calls from the driver turn Python's profiler on and
off; its Raft and its log have classes that see an assignment, and the line that made it. So the library has no line for
this, and what a learner wrote is watched like what came with it.

Invariants:

1. A watched node does what an unwatched one does: nothing is called on it, and a profiler that was there comes back.
2. Only what is called from a `RawNode`'s call counts. What invariants and traces ask a node is not shown.
3. Names and lines only, no addresses and no paths of this machine: same run, same answer.

Left out: questions that change nothing (`last_index`, `term`, …) would bury what matters, so functions of one expression
are left out, those of DULL, and what is more than DEPTH_MAX calls deep; and `ready`, which only hands out what is there.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NamedTuple

from raft.log import RaftLog
from raft.log_unstable import Unstable
from raft.raft import Raft
from raft.rawnode import RawNode

__all__ = ["Acting", "Changed", "Function"]

CALLS_MAX = 24
DEPTH_MAX = 9

_DRIVEN = (
    "tick", "campaign", "propose", "propose_batch", "propose_conf_change", "apply_conf_change", "read_index", "step",
    "transfer_leadership", "forget_leader", "report_unreachable", "report_snapshot", "advance",
)  # fmt: skip
_SEEN = {
    Raft: ("term", "vote", "state", "lead"),
    RaftLog: ("committed", "applied"),
    Unstable: ("entries", "snapshot"),
}
_DULL = {"__init__", "info", "term", "first_index", "last_index", "term_or_zero"}
_ELSEWHERE = (
    "raft.storage",
    "raft.interaction",
    "raft.simulation",
    "raft.kinds",
    "raft.raftpb",
    "raft.confpb",
    "raft.state",
)


class Changed(NamedTuple):
    """A line that gave a field of the node another value."""

    code: CodeType
    line: int
    field: str


class Function(NamedTuple):
    """A function of the library, as its module's loader has it. first: the line on which `source` begins."""

    path: str
    name: str
    first: int
    source: str


class Acting:
    """Collects what acts; `take` hands it out and begins anew."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, CodeType]] = []
        self.changed: list[Changed] = []
        self.modules: dict[CodeType, tuple[str, Any]] = {}  # name and loader of those that were ever called
        self.dull: set[CodeType] = set()
        self.trees: dict[str, tuple[list[str], dict[int, tuple[int, bool]]]] = {}
        self.depth = 0
        self.node_class = type("WatchedNode", (RawNode,), {"__slots__": (), **{n: self._driven(n) for n in _DRIVEN}})
        self.classes = {kind: self._seen(kind, fields) for kind, fields in _SEEN.items()}

    def watch(self, node: RawNode) -> None:
        """From here on the calls of a driver on this node are collected. Requires: a node that has just started."""
        node.__class__ = self.node_class
        for part in (node.raft, node.raft.log, node.raft.log.unstable):
            part.__class__ = self.classes[type(part)]

    def take(self) -> tuple[list[tuple[int, CodeType]], list[Changed]]:
        """The calls (depth, function) since the last time, in order, and the lines that changed something."""
        taken = self.calls, self.changed
        self.calls, self.changed = [], []
        return taken

    def _driven(self, name: str) -> Callable[..., Any]:
        original = getattr(RawNode, name)

        def call(node: RawNode, *arguments: Any, **keywords: Any) -> Any:
            before, self.depth = sys.getprofile(), 0
            sys.setprofile(self._profile)
            try:
                return original(node, *arguments, **keywords)
            finally:
                sys.setprofile(before)

        return call

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.depth += 1
            code = frame.f_code
            if self.depth <= DEPTH_MAX and len(self.calls) < CALLS_MAX and self._matters(code, frame):
                self.calls.append((self.depth, code))
        elif event == "return":
            self.depth -= 1

    def _matters(self, code: CodeType, frame: FrameType) -> bool:
        if code in self.dull:
            return False
        if code not in self.modules:
            name = frame.f_globals.get("__name__", "")
            if (
                not name.startswith("raft.")
                or name.startswith(_ELSEWHERE)
                or code.co_name.startswith("<")
                or code.co_name in _DULL
            ):
                self.dull.add(code)
                return False
            self.modules[code] = name, frame.f_globals.get("__loader__")
            if self._is_question(code):
                self.dull.add(code)
                return False
        return all(code is not seen for _, seen in self.calls)

    def _seen(self, kind: type, fields: tuple[str, ...]) -> type:
        def __setattr__(part: Any, field: str, value: Any) -> None:
            if field in fields and getattr(part, field) != value:
                here = inspect.currentframe()
                frame = here.f_back if here is not None else None
                assert frame is not None, "this Python has no frames"
                self.modules.setdefault(frame.f_code, (frame.f_globals["__name__"], frame.f_globals["__loader__"]))
                self.changed.append(Changed(frame.f_code, frame.f_lineno, field))
            object.__setattr__(part, field, value)

        return type(f"Watched{kind.__name__}", (kind,), {"__slots__": (), "__setattr__": __setattr__})

    # The sources.

    def function(self, code: CodeType) -> Function:
        """What is shown of a function that was called."""
        module, _ = self.modules[code]
        lines, functions = self._tree(code)
        first = code.co_firstlineno
        end, _ = functions.get(first, (first, False))
        source = "\n".join(lines[first - 1 : end])
        return Function(f"{module.replace('.', '/')}.py", code.co_qualname, first, source)

    def _is_question(self, code: CodeType) -> bool:
        return self._tree(code)[1].get(code.co_firstlineno, (0, False))[1]

    def _tree(self, code: CodeType) -> tuple[list[str], dict[int, tuple[int, bool]]]:
        """A module's lines; and by its first line each function's last one, and whether it is only a question."""
        module, loader = self.modules[code]
        if module not in self.trees:
            text = loader.get_source(module) if hasattr(loader, "get_source") else None
            functions = {}
            for node in ast.walk(ast.parse(text or "")):
                if isinstance(node, ast.FunctionDef):
                    first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
                    functions[first] = (node.end_lineno or node.lineno, _is_question(node))
            self.trees[module] = (text or "").splitlines(), functions
        return self.trees[module]


def _is_question(node: ast.FunctionDef) -> bool:
    """True if the body, but for its docstring, is one `return`."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return len(body) == 1 and isinstance(body[0], ast.Return)
