"""engines/telling.py: explanations and sketches are bounded, and an engine that tells nothing still answers."""

from __future__ import annotations

import json
from typing import Any

from engines.kvstore import KVStore
from engines.memory import MemoryStore
from engines.telling import SKETCH_BYTES, STEPS_MAX, bounded, explained, shown


class Silent(MemoryStore):
    """As an engine of one's own that overrides neither."""

    explain = KVStore.explain

    def describe(self) -> dict[str, Any]:
        return {"engine": "silent", "pages": list(range(9000)), "map": "L" * 9000, "depth": 3}


def test_an_engine_that_tells_nothing_answers_all_the_same() -> None:
    with Silent() as store:
        store.put(b"a", b"12")
        assert store.explain(b"a") == {
            "engine": "memory", "key": "a", "found": True, "value_bytes": 2, "told": False, "steps": []
        }  # fmt: skip
        assert store.explain(b"b")["found"] is False


def test_a_long_description_is_cut_and_says_so() -> None:
    with Silent() as store:
        sketch = store.sketch()
    assert len(json.dumps(sketch)) < SKETCH_BYTES
    assert (sketch["depth"], sketch["left_out"]) == (3, {"pages": 9000, "map": 9000})
    assert bounded({"pages": [1, 2]}) == {"pages": [1, 2]}


def test_steps_are_bounded() -> None:
    told = explained("toy", b"k", None, [{"place": "table", "result": "not here"}] * 500)
    assert len(told["steps"]) == STEPS_MAX
    assert told["steps"][-1]["result"] == "401 more steps, which are left out here"


def test_keys_are_shown_as_text_of_bounded_length() -> None:
    assert shown(b"k\xff\n") == "k\\xff\n"
    assert len(shown(b"\xff" * 40_000)) == len(shown(b"a" * 40_000)) == 60
