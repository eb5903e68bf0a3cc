"""The engines' views: what they show is what the stores say, at the same index; of a key, what a get of it touches.

The nodes are made up and their stores are real (engine_nodes.py), so that nothing is written while a test compares. One
test has a real cluster under the page.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import KVStore
from server.client import Client
from server.cluster import LocalCluster
from tests.page.browsing import PHONE, expect
from tests.page.engine_nodes import EngineNodes, small_stores
from tests.server.local_nodes import eventually

Keep = Callable[[Any, str], None]


@pytest.fixture
def nodes(visit: Any, tmp_path: Path) -> Iterator[EngineNodes]:
    with small_stores(str(tmp_path)) as opened:
        visit.allow(*opened.urls)
        yield opened
        visit.close()


def store_of(nodes: EngineNodes, engine: str) -> KVStore:
    return nodes.stores[nodes.names.index(engine)]


def watch(page: Any, key: str) -> None:
    """Has the page explain a get of the key."""
    page.get_by_test_id("explain-key").fill(key)
    page.get_by_test_id("explain-go").click()


def some_key(store: KVStore) -> str:
    """One that is there."""
    key, _ = next(iter(store.scan(b"kuser/00300")))
    return key[1:].decode()


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_the_levels_are_those_of_describe(nodes: EngineNodes, visit: Any) -> None:
    """Each level with its tables and bytes, each table by its number; the memtable; and again after a burst of writes."""
    page = visit(f"{nodes.url}/_/page#lsm")
    store = store_of(nodes, "lsm")
    for turn in range(2):
        described = store.describe()
        expect(page.get_by_test_id("lsm-levels")).to_contain_text(f"as of index {nodes.applied}.")
        for level in described["levels"]:
            row = page.get_by_test_id(f"level-{level['level']}")
            if level["files"] or level["level"] == 0:
                expect(row).to_have_attribute("data-tables", str(len(level["files"])))
                expect(row).to_have_attribute("data-bytes", str(level["bytes"]))
                for file in level["files"]:
                    expect(row.get_by_test_id(f"table-{file['number']}")).to_be_visible()
                expect(row.locator("rect")).to_have_count(len(level["files"]))
            else:
                expect(row).to_have_count(0)
        expect(page.get_by_test_id("memtable")).to_contain_text(f"{described['memtable']['entries']} version")
        stats = store.stats()
        expect(page.get_by_test_id("write-amplification")).to_have_text(f"{stats.write_amplification:.2f}")
        expect(page.get_by_test_id("fact-compactions")).to_have_text(str(stats.engine["compactions"]))
        nodes.write(300, 700, turn + 1)


def test_the_map_of_pages_is_that_of_describe(nodes: EngineNodes, visit: Any) -> None:
    """By kinds, and by what stands under the cursor; metas and pins with the reader that holds a tree."""
    page = visit(f"{nodes.url}/_/page#btree")
    store = store_of(nodes, "btree")
    with store.snapshot():
        nodes.write(200, 700, 1)
        described = store.describe()
        expect(page.get_by_test_id("pages")).to_have_attribute("data-txid", str(described["txid"]))
        for kind, number in described["kinds"].items():
            expect(page.get_by_test_id("pages")).to_have_attribute(f"data-{kind}", str(number))
        for meta in described["metas"]:
            expect(page.get_by_test_id(f"meta-{meta['page']}")).to_contain_text(f"txid {meta['txid']:,}")
        rows = page.get_by_test_id("pins").locator("tr")
        expect(rows).to_have_count(len(described["pins"]))
        [held] = [pin for pin in described["pins"] if pin["readers"]]
        expect(rows.filter(has_text="1 reader")).to_contain_text(f"{held['txid']:,}")
        expect(rows.filter(has_text="1 reader").locator("td").last).to_have_text(f"{held['pages']:,}")
        expect(page.get_by_test_id("fact-free")).to_have_text(str(described["free"]))
        expect(page.get_by_test_id("fact-waiting")).to_have_text(str(described["pending"]))
        names = {"M": "meta", "F": "freelist", "B": "branch", "L": "leaf", "o": "overflow", ".": "free", "w": "waiting"}
        page.get_by_test_id("pages").focus()
        for at in range(6):
            page.keyboard.press("ArrowRight")
            expect(page.get_by_test_id("page-under")).to_have_text(f"page {at}: {names[described['map'][at]]}")


def test_the_segments_are_those_of_describe(nodes: EngineNodes, visit: Any) -> None:
    """Each with its live, dead and hint bytes; the keydir with its keys."""
    page = visit(f"{nodes.url}/_/page#bitcask")
    store = store_of(nodes, "bitcask")
    for turn in range(2):
        described = store.describe()
        expect(page.get_by_test_id("bitcask-segments")).to_contain_text(f"as of index {nodes.applied}.")
        expect(page.get_by_test_id("segments").locator("li")).to_have_count(len(described["segments"]))
        for segment in described["segments"]:
            row = page.get_by_test_id(f"segment-{segment['id']}")
            for name in ("data", "live", "hint"):
                expect(row).to_have_attribute(f"data-{name}", str(segment[f"{name}_bytes"]))
            expect(row).to_have_attribute("data-state", segment["state"])
        expect(page.get_by_test_id("fact-keys")).to_have_text(f"{described['keys']:,}")
        nodes.write(200, 700, turn + 1)


def test_the_map_in_memory_says_how_many_keys_it_has(nodes: EngineNodes, visit: Any) -> None:
    page = visit(f"{nodes.url}/_/page#memory")
    expect(page.get_by_test_id("fact-keys")).to_have_text(f"{store_of(nodes, 'memory').describe()['keys']:,}")
    watch(page, "nothing")
    expect(page.get_by_test_id("explain-answer")).to_have_text("No such key: known after 1 step.")


# ---- work that runs -------------------------------------------------------------------------------------------------


def test_a_running_compaction_and_a_running_merge_are_shown(nodes: EngineNodes, visit: Any) -> None:
    """With inputs, and how far they are; their inputs are marked, and both signs go with the work."""
    lsm, bitcask = (nodes.sketches[nodes.names.index(name)] for name in ("lsm", "bitcask"))
    [number, *_] = [file["number"] for level in lsm["levels"] for file in level["files"]]
    lsm["running_compaction"] = {
        "reason": "size", "from_level": 0, "to_level": 1, "trivial": False, "inputs": [number], "input_bytes": 4096,
        "outputs": [{"number": 900, "bytes": 1024}], "output_bytes": 1024, "seconds": 0.52,
    }  # fmt: skip
    page = visit(f"{nodes.url}/_/page#lsm")
    expect(page.get_by_test_id("compaction")).to_contain_text("from level 0 to 1, because the level is full: 1 table")
    expect(page.get_by_test_id("compaction")).to_contain_text(
        "4.0 KiB go in, 1.0 KiB came out so far, in 1 table, after 0.5 s"
    )
    expect(page.get_by_test_id(f"table-{number}")).to_have_class("table part-1 input")
    first = bitcask["segments"][0]["id"]
    bitcask["running_merge"] = {
        "inputs": [first], "input_bytes": 2048, "outputs": [{"id": 99, "bytes": 1024}], "output_bytes": 1024
    }  # fmt: skip
    other = visit(f"{nodes.url}/_/page#bitcask")
    expect(other.get_by_test_id("merge")).to_contain_text("1 segment with 2.0 KiB go in, 1.0 KiB of live records")
    expect(other.get_by_test_id(f"segment-{first}")).to_have_attribute("data-input", "yes")
    nodes.tell()
    expect(page.get_by_test_id("compaction")).to_be_hidden()
    expect(other.get_by_test_id("merge")).to_be_hidden()


# ---- a get of a key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask", "memory"])
def test_what_a_get_touches_is_what_the_engine_explains(nodes: EngineNodes, visit: Any, engine: str) -> None:
    """A step for each of the engine's, in its order and with its result; of a key that is there, and of one that isn't."""
    page = visit(f"{nodes.url}/_/page#{engine}")
    store = store_of(nodes, engine)
    for key in (some_key(store), "user/none"):
        told = store.explain(b"k" + key.encode())
        watch(page, key)
        expect(page.get_by_test_id("explain-answer")).to_contain_text("A value of" if told["found"] else "No such key")
        expect(page.get_by_test_id("explain-steps").locator(".result")).to_have_text(
            [step["result"] for step in told["steps"]]
        )


def test_a_table_that_a_get_asks_is_marked(nodes: EngineNodes, visit: Any) -> None:
    """After a flush, so that the memtable knows nothing."""
    store = store_of(nodes, "lsm")
    store.flush()
    nodes.tell()
    key = some_key(store)
    steps = [step for step in store.explain(b"k" + key.encode())["steps"] if step["place"] == "table"]
    [found] = [step for step in steps if step["result"] == "a value"]
    page = visit(f"{nodes.url}/_/page#lsm")
    watch(page, key)
    expect(page.get_by_test_id(f"table-{found['number']}")).to_have_attribute("data-verdict", "found")


def test_the_arrow_keys_go_from_table_to_table(nodes: EngineNodes, visit: Any) -> None:
    """One stop of the Tab key for each level, each table with its numbers in words."""
    page = visit(f"{nodes.url}/_/page#lsm")
    levels = store_of(nodes, "lsm").describe()["levels"]
    files = next(level for level in levels if len(level["files"]) > 2)["files"]
    page.get_by_test_id(f"table-{files[0]['number']}").focus()
    for file in files[1:3]:
        page.keyboard.press("ArrowRight")
        focused = page.get_by_test_id(f"table-{file['number']}")
        expect(focused).to_be_focused()
        expect(focused).to_have_attribute(
            "aria-label", re.compile(f"^table {file['number']}: .*, {file['entries']} entr")
        )
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id(f"table-{files[1]['number']}")).to_be_focused()
    assert page.locator("rect.table[tabindex='0']").count() == sum(bool(level["files"]) for level in levels)


def test_a_put_copies_the_path_of_its_key(nodes: EngineNodes, visit: Any, keep: Keep) -> None:
    """The pages before and after, without a click: the page asks again when something was applied."""
    store = store_of(nodes, "btree")
    store.flush()
    nodes.tell()
    key = some_key(store)
    page = visit(f"{nodes.url}/_/page#btree")
    watch(page, key)
    expect(page.get_by_test_id("explain-answer")).to_contain_text("A value of")
    before = [step["page"] for step in store.explain(b"k" + key.encode())["steps"]]
    store.put(b"k" + key.encode(), b"another value")
    after = [step["page"] for step in store.explain(b"k" + key.encode())["steps"]]
    nodes.tell()
    expect(page.get_by_test_id("copied")).to_contain_text("the whole path was copied")
    now = page.get_by_test_id("paths").get_by_label("the path now").locator(".path-page")
    expect(now).to_have_count(len(after))
    for shown, old, new in zip(now.all(), before, after):
        expect(shown).to_contain_text(str(new))
        assert old != new
    keep(page, "btree-put")


# ---- the bytes ------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_the_record(nodes: EngineNodes, visit: Any, keep: Keep) -> None:
    """From a step of an explanation to the line of the dump that has it; then to the file's begin, and on."""
    store = store_of(nodes, "bitcask")
    key = some_key(store)
    page = visit(f"{nodes.url}/_/page#bitcask")
    watch(page, key)
    page.get_by_test_id("explain-steps").get_by_role("button", name="The bytes of").click()
    lines = page.get_by_test_id("bytes-lines")
    offset = store.explain(b"k" + key.encode())["steps"][1]["offset"]
    expect(lines).to_contain_text(f"{offset:08x}")
    expect(lines).to_contain_text(f"k{key}"[:16])
    assert lines.inner_text().startswith(f"{offset:08x}")
    page.get_by_test_id("bytes-first").click()
    expect(lines).to_contain_text("bitcask.data, ")
    page.get_by_test_id("bytes-next").click()
    expect(page.get_by_test_id("bytes")).to_have_attribute("data-at", "200")
    page.go_back()
    expect(lines).to_contain_text("bitcask.data, ")
    keep(page, "bytes")


def test_a_file_that_is_gone_is_said(nodes: EngineNodes, visit: Any) -> None:
    visit.forgive("404")
    page = visit(f"{nodes.url}/_/page#bytes?node=1&file=engine/999999.ldb")
    expect(page.get_by_test_id("bytes")).to_contain_text("There is no file engine/999999.ldb in the node's directory.")
    expect(page.get_by_test_id("bytes-lines")).to_be_hidden()
    page.get_by_test_id("bytes-file").select_option(index=1)
    expect(page.get_by_test_id("bytes-lines")).to_be_visible()


# ---- for everybody --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask", "memory", "bytes"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_a_phone_and_has_its_question(
    nodes: EngineNodes, visit: Any, keep: Keep, engine: str, scheme: str
) -> None:
    """No sideways scrolling at 320 pixels; each picture has its two sentences and its chapter; SVGs say their numbers."""
    for name, options in (("phone", {"viewport": PHONE}), ("desk", {})):
        page = visit(f"{nodes.url}/_/page#{engine}", color_scheme=scheme, **options)
        expect(page.locator("main .note").first).to_contain_text(
            "from line" if engine == "bytes" else "index" if engine != "lsm" else "Log"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for box in page.locator("main .picture").all():
            box.get_by_role("button", name="What is this?").click()
            expect(box.locator(".what")).to_contain_text("of the tutorial builds it")
        for image in page.locator("main [role=img]").all():
            assert image.get_attribute("aria-label") or image.locator("title").count(), image.evaluate(
                "e => e.outerHTML"
            )
        keep(page, f"{engine}-{scheme}-{name}")


# ---- large stores ---------------------------------------------------------------------------------------------------

FRAME_TIMES = """async (frames) => {
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let n = 0; n < frames; n++) {
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times.sort((a, b) => a - b);
}"""


def big_sketches() -> dict[str, Any]:
    """A thousand tables, ten thousand pages, a million keys in a thousand segments, as their engines sketch them."""
    lsm = {
        "levels": [
            {"level": level, "bytes": 2_000_000 * tables, "score": 0.5, "limit_files": 4 if level == 0 else None,
             "limit_bytes": None if level in (0, 6) else 10**7 * 10**level, "tables": tables,
             "spans": [{"tables": tables // 16 or 1, "bytes": 2_000_000 * tables // 16, "first": f"k{at:04}", "last": f"k{at + 60:04}"}
                       for at in range(0, 960, 60)][: tables]}
            for level, tables in enumerate([4, 12, 84, 900, 0, 0, 0])
        ],
        "memtable": {"kind": "skiplist", "entries": 30_000, "bytes": 3 << 20, "full_bytes": 4 << 20},
        "frozen": [], "log": {"number": 9, "bytes": 3 << 20}, "manifest": 8, "running_compaction": None,
    }  # fmt: skip
    btree = {
        "map": "MM" + "BLLLLLLoo." * 204 + "LLLLLL", "map_step": 5, "pages": 10_240, "page_size": 4096, "txid": 70_000,
        "kinds": {"meta": 2, "branch": 1000, "leaf": 6000, "overflow": 2000, "free": 1238}, "durable_txid": 69_999,
        "free": 1238, "pending": 0, "depth": 4, "cached_nodes": 9000, "file_bytes": 10_240 * 4096, "pins": [],
        "metas": [{"page": at, "txid": 69_999 + at, "root": 5, "freelist": 7, "high_water": 10_240, "provisional": False}
                  for at in range(2)],
    }  # fmt: skip
    bitcask = {
        "keys": 1_000_000, "keydir_bytes": 140_000_000, "snapshots": 0, "segment_count": 1008, "running_merge": None,
        "spans": [{"first_id": 21 * at + 1, "last_id": 21 * at + 21, "segments": 21, "data_bytes": 21 << 20,
                   "live_bytes": 20_000_000 - 100_000 * at, "tombstone_bytes": 9000, "hint_bytes": 600_000} for at in range(48)],
    }  # fmt: skip
    return {"lsm": lsm, "btree": btree, "bitcask": bitcask}


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask"])
def test_a_large_store_is_drawn_quickly(nodes: EngineNodes, visit: Any, keep: Keep, engine: str) -> None:
    """A summary first; a frame ten times a second. METCD_SCREENSHOTS also has the frame times, which nothing asserts."""
    at = nodes.names.index(engine)
    counters = nodes.sketches[at]["counters"]
    nodes.sketches[at] = {**big_sketches()[engine], "counters": counters}
    page = visit(f"{nodes.url}/_/page#{engine}")
    words = {"lsm": "1,000 tables", "btree": "10,240 pages", "bitcask": "1,008 segments"}[engine]
    expect(page.locator("main .picture").filter(has_text=words).first).to_be_visible()
    times = page.evaluate(FRAME_TIMES, 120)
    print(f"{engine}: frame times in ms: median {times[60]:.1f}, 95 % {times[114]:.1f}, longest {times[-1]:.1f}")
    keep(page, f"{engine}-large")


def test_a_thousand_tables_are_shown_when_they_are_asked_for(visit: Any, tmp_path: Path, keep: Keep) -> None:
    """A real store of 1,000 tables; 1,200 segments and 10,000 pages beside it. First a sketch of a few KB, then all."""
    small = {"lsm": {"max_file_bytes": 1000}, "bitcask": {"max_file_size": 1000}}
    with EngineNodes(str(tmp_path), ["lsm", "btree", "bitcask"], **small) as nodes:
        visit.allow(*nodes.urls)
        for store in nodes.stores:
            pairs = ((b"k%06d" % number, b"v" * (900 if store.name == "btree" else 100)) for number in range(10_200))
            store.load(pairs)
        nodes.tell()
        sizes = {name: len(json.dumps(sketch)) for name, sketch in zip(nodes.names, nodes.sketches)}
        assert max(sizes.values()) < 8192
        described = {store.name: store.describe() for store in nodes.stores}
        tables = sum(len(level["files"]) for level in described["lsm"]["levels"])
        assert (
            tables >= 1000 and described["btree"]["pages"] >= 10_000 and len(described["bitcask"]["segments"]) >= 1000
        )
        for engine, button, shown in (
            ("lsm", "whole-levels", "[data-testid=levels] rect.table"),
            ("bitcask", "whole-segments", "[data-testid=segments] li"),
            ("btree", "whole-map", "[data-testid=pages]"),
        ):
            page = visit(f"{nodes.url}/_/page#{engine}")
            if engine != "btree":
                expect(page.locator(shown).nth(10)).to_be_attached()
                assert page.locator(shown).count() <= 64
            page.get_by_test_id(button).click()
            expect(page.get_by_test_id(button)).to_have_text("Back to the summary, which goes on")
            if engine != "btree":
                expect(page.locator(shown)).to_have_count(
                    tables if engine == "lsm" else len(described[engine]["segments"])
                )
            times = page.evaluate(FRAME_TIMES, 120)
            print(
                f"{engine}, all of it: frame times in ms: median {times[60]:.1f}, 95 % {times[114]:.1f}, longest {times[-1]:.1f}; the sketch has {sizes[engine]:,} bytes"
            )
            keep(page, f"{engine}-whole")
        visit.close()


# ---- a real cluster -------------------------------------------------------------------------------------------------


def test_a_real_cluster_s_engines_are_seen(cluster: LocalCluster, client: Client, visit: Any, keep: Keep) -> None:
    """After a burst of writes through the cluster, each view shows what GET /_/describe says at the same index."""
    visit.allow(*(node.url for node in cluster.nodes))
    for number in range(150):
        client.put(b"user/%03d" % (number % 60), b"v" * 500)
    for node, engine in zip(cluster.nodes, ["lsm", "btree", "bitcask"]):
        page = visit(f"{cluster.nodes[0].url}/_/page#{engine}")
        told: dict[str, Any] = {}

        def settled(url: str = node.url, told: dict[str, Any] = told) -> bool:
            with urllib.request.urlopen(f"{url}/_/describe", timeout=30) as answer:
                told.update(json.load(answer))
            return bool(told["applied"] == told["until"] >= 150)

        eventually(f"{engine} has applied all", settled)
        picture = {"lsm": "lsm-levels", "btree": "btree-map", "bitcask": "bitcask-segments"}[engine]
        expect(page.get_by_test_id(picture)).to_contain_text(f"as of index {told['applied']:,}")
        described = told["describe"]
        if engine == "lsm":
            expect(page.get_by_test_id("memtable")).to_contain_text(f"{described['memtable']['entries']:,} version")
        elif engine == "btree":
            expect(page.get_by_test_id("pages")).to_have_attribute("data-leaf", str(described["kinds"]["leaf"]))
        else:
            expect(page.get_by_test_id("fact-keys")).to_have_text(f"{described['keys']:,}")
        watch(page, "user/007")
        expect(page.get_by_test_id("explain-answer")).to_contain_text("A value of 500 B")
        keep(page, f"{engine}-cluster")
