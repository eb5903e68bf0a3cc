"""engines/lsm/explain.py: which places a get asks; and how far a compaction has come, by `describe`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engines.lsm import LsmStore
from engines.lsm.fast import FAST
from engines.lsm.job import Job, TableWriter
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.simenv import SimEnv

OPTIONS: dict[str, Any] = {"background": False, "max_file_bytes": 4096, "block_bytes": 256}


def told(store: LsmStore, key: bytes) -> list[str]:
    return [f"{step['place']} {step.get('level', '')}: {step['result']}" for step in store.explain(key)["steps"]]


def test_the_first_place_that_knows_decides() -> None:
    """Memtable, level 0 newest first, deeper levels; what comes after is not asked."""
    with LsmStore("/db", env=SimEnv(0), **OPTIONS) as store:
        store.load((b"%04d" % number, b"old") for number in range(0, 2000, 2))
        store.put(b"0100", b"in level 0")
        store.delete(b"0102")
        store.flush()
        store.put(b"0104", b"in memory")
        assert told(store, b"0104") == [
            "memtable : a value",
            "table 0: not asked: a newer place has decided",
            "table 6: not asked: a newer place has decided",
        ]
        assert told(store, b"0100")[:2] == ["memtable : not here", "table 0: a value"]
        assert told(store, b"0102")[1] == "table 0: a tombstone: the key is deleted"
        assert told(store, b"0200") == ["memtable : not here", "table 0: its keys are others", "table 6: a value"]
        assert told(store, b"9999")[-1] == "level 6: no table has such keys"


def test_a_filter_that_denies_saves_the_block() -> None:
    """And one that is wrong is told; without filters each table reads a block."""
    with LsmStore("/db", env=SimEnv(0), **OPTIONS) as store:
        store.load((b"%04d" % number, b"v") for number in range(0, 2000, 2))
        results = [told(store, b"%04d" % number)[-1] for number in range(1, 1999, 2)]
        assert results.count("table 6: denied by its filter") > 900
        before = store.stats()
        step = store.explain(b"0500")["steps"][-1]
        assert store.stats().reads == before.reads + 1
        assert step["block"] < step["blocks"] and step["block_bytes"] <= 400 and not step["cached"]
        store.get(b"0500")
        assert store.explain(b"0500")["steps"][-1]["cached"]
    with LsmStore("/other", env=SimEnv(0), filter=None, **OPTIONS) as store:
        store.load((b"%04d" % number, b"v") for number in range(0, 200, 2))
        assert told(store, b"0101")[-1] == "table 6: not in its block"


@pytest.mark.parametrize("form", [PLAIN, FAST], ids=["plain", "fast"])
def test_a_running_compaction_says_how_far_it_is(form: Parts) -> None:
    """Its inputs, and the tables that it has begun, by the sizes of their files."""
    seen: list[dict[str, Any]] = []

    def watched(job: Job, writer: TableWriter, tables: TableCache) -> list[FileMeta]:
        seen.append(store.describe()["running_compaction"])
        files = form.compact(job, writer, tables)
        seen.append(store.describe()["running_compaction"])
        return files

    class Watched(LsmStore):
        parts = replace(form, compact=watched)

    env = SimEnv(0)
    with Watched("/db", env=env, **OPTIONS) as store:
        for _ in range(2):
            for number in range(300):
                store.put(b"%04d" % number, b"v" * 50)
            store.flush()
        store.compact()
        before, after = seen[:2]
        inputs = [file for level in (0, 1) for file in before["inputs"]]
        assert before["outputs"] == [] and before["output_bytes"] == 0 and before["input_bytes"] > 2 * 300 * 50
        assert len(inputs) >= 2 and before["reason"] == "manual" and not before["trivial"]
        made = {f"/db/{output['number']:06d}.ldb": output["bytes"] for output in after["outputs"]}
        assert len(made) > 2 and sum(made.values()) == after["output_bytes"] > 300 * 50
        assert store.describe()["running_compaction"] is None


def test_a_thousand_tables_are_sketched_in_a_few_kilobytes() -> None:
    """Levels in runs of neighbours, which have all tables and all bytes."""
    with LsmStore("/db", env=SimEnv(0), background=False, max_file_bytes=300, block_bytes=256) as store:
        store.load((b"%05d" % number, b"v" * 100) for number in range(3000))
        described, sketch = store.describe(), store.sketch()
        assert len(described["levels"][6]["files"]) >= 1000
        assert len(json.dumps(sketch)) < 8192
        level = sketch["levels"][6]
        assert level["tables"] == len(described["levels"][6]["files"]) == sum(span["tables"] for span in level["spans"])
        assert level["bytes"] == sum(span["bytes"] for span in level["spans"])
        assert level["spans"][0]["first"] == "00000" and level["spans"][-1]["last"] == "02999"


def test_a_level_0_without_an_order_is_asked_as_a_whole() -> None:
    """As after LevelDB's RepairDB (level0.py): every table that may have the key is asked, and the newest row decides."""
    with LsmStore("/db", env=SimEnv(0), level0_files=9, **OPTIONS) as store:
        for turn in range(4):
            for number in range(20):
                store.put(b"%02d" % number, b"%d" % turn) if number % (turn + 1) == 0 else None
            store.delete(b"18")
            store.flush()
        store.core.state.version.level0_in_order = False
        for key in [b"%02d" % number for number in range(21)]:
            explained, value = store.explain(key), store.get(key)
            assert explained["found"] is (value is not None)
            assert explained["value_bytes"] == (None if value is None else len(value))
        assert [step["result"] for step in store.explain(b"12")["steps"][1:]] == ["a value"] * 4
