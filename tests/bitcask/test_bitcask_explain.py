"""engines/bitcask/explain.py: a place and a record; and the merge that is running, by `describe`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engines.bitcask import BitcaskStore
from engines.bitcask.merge import Merge
from engines.simenv import SimEnv


def test_a_get_is_a_place_and_a_record() -> None:
    with BitcaskStore("/db", env=SimEnv(0)) as store:
        store.put(b"a", b"1")
        store.put(b"k", b"value")
        keydir, segment = store.explain(b"k")["steps"]
        assert (keydir["segment"], keydir["offset"], keydir["record_bytes"]) == (1, 16, 20)
        assert keydir["result"] == "20 bytes at byte 16 of segment 1"
        assert (segment["file"], segment["state"], segment["result"]) == ("1.bitcask.data", "active", "a value")
        assert [step["result"] for step in store.explain(b"no")["steps"]] == ["not here: nothing is read"]


def test_a_running_merge_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inputs and outputs, before the outputs are installed."""
    seen: list[dict[str, Any]] = []
    install = Merge._install

    def watched(merge: Merge, output: Any) -> None:
        seen.append(store.describe()["running_merge"])
        install(merge, output)

    monkeypatch.setattr(Merge, "_install", watched)
    with BitcaskStore("/db", env=SimEnv(0), max_file_size=2000, merge="manual") as store:
        for number in range(200):
            store.put(b"%03d" % (number % 50), b"v" * 50)
        store.compact()
        running = seen[0]
        assert running["input_bytes"] > running["output_bytes"] >= 50 * 50
        assert running["output_bytes"] == sum(output["bytes"] for output in running["outputs"])
        assert store.describe()["running_merge"] is None
        assert [output["id"] for output in running["outputs"]] == [
            segment["id"] for segment in store.describe()["segments"] if segment["state"] == "sealed"
        ]


def test_many_segments_are_sketched_in_a_few_kilobytes() -> None:
    with BitcaskStore("/db", env=SimEnv(0), max_file_size=1000, merge="manual") as store:
        for number in range(2000):
            store.put(b"%04d" % number, b"v" * 50)
        described, sketch = store.describe(), store.sketch()
        assert sketch["segment_count"] == len(described["segments"]) > 100
        assert len(json.dumps(sketch)) < 8192
        for name in ("data_bytes", "live_bytes", "tombstone_bytes", "hint_bytes"):
            assert sum(each[name] for each in described["segments"]) == sum(span[name] for span in sketch["spans"])
        assert 100_000 < described["keydir_bytes"] < 600_000
