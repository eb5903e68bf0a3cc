"""What a store tells about itself to somebody who looks on: the forms of `explain` and `sketch`, for every engine.

    explain(b"k")    {"engine": "lsm", "key": "k", "found": true, "value_bytes": 5, "told": true,
                      "steps": [{"place": "memtable", "result": "not here"},
                                {"place": "table", "number": 7, "level": 0, "result": "a value", ...}]}
    sketch()         describe() in a few KB, and a part "counters" with the cheap ones of stats()

1. Both are ready for JSON, and bounded: STEPS_MAX steps, TEXT_CHARS of a key, SKETCH_BYTES of what an engine that isn't
   ours describes.
2. The steps of an explanation stand in the order in which a get takes them, each with a `place` and a `result`; what else
   a step has is the engine's. `told` is false for an engine that has no steps to tell.
3. What a sketch has in common with `describe` is the same at the same moment. What was too much is left out, with its
   size in its place, and the picture asks for `describe` when somebody wants to see it.

LevelDB tells its structure by DB::GetProperty; RocksDB's perf_context counts what a get has touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["STEPS_MAX", "bounded", "counters", "explained", "result_of", "shown"]

STEPS_MAX: Final = 100
TEXT_CHARS: Final = 60
SKETCH_BYTES: Final = 8192
SCALARS: Final = (str, int, float, bool, type(None))


def explained(
    engine: str, key: bytes, value: bytes | None, steps: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """An explanation of a get that gave `value`. steps: None if the engine has none to tell; those too many are counted."""
    told = list(steps or ())
    if len(told) > STEPS_MAX:
        rest = len(told) - STEPS_MAX + 1
        told[STEPS_MAX - 1 :] = [{"place": "more", "result": f"{rest:,} more steps, which are left out here"}]
    return {
        "engine": engine,
        "key": shown(key),
        "found": value is not None,
        "value_bytes": None if value is None else len(value),
        "told": steps is not None,
        "steps": told,
    }


def result_of(value: bytes | None) -> str:
    """A step's result, in words, for a value or a tombstone that decides."""
    return "a tombstone: the key is deleted" if value is None else "a value"


def shown(key: bytes) -> str:
    """A key as text of TEXT_CHARS at most; bytes that are no text as \\\\x.. O(1)."""
    text = key[: TEXT_CHARS + 1].decode("utf-8", "backslashreplace")
    return text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1] + "…"


def bounded(described: Mapping[str, Any]) -> dict[str, Any]:
    """What an engine describes, as it is if that is SKETCH_BYTES of JSON at most; else how many there are of what is long."""
    if len(json.dumps(described)) <= SKETCH_BYTES:
        return dict(described)
    short = {name: value for name, value in described.items() if isinstance(value, SCALARS) and len(str(value)) < 200}
    left_out = {name: len(value) for name, value in described.items() if name not in short}
    return {**dict(list(short.items())[:50]), "left_out": dict(list(left_out.items())[:50])}


def counters(stats: Any) -> dict[str, Any]:
    """The counters of a Stats that every engine has, and its write amplification."""
    names = ("puts", "deletes", "gets", "user_bytes", "bytes_written", "bytes_read", "reads", "fsyncs")
    return {
        **{name: getattr(stats, name) for name in names},
        "write_amplification": round(stats.write_amplification, 4),
    }
