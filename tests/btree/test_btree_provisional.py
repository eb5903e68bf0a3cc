"""Provisional commits: the txid rule, the sum, the spare place; and what a kill and a power cut leave of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.btree import BTreeStore, check_file
from engines.btree.meta import META_AREA_BYTES, NO_FREELIST, Meta
from engines.btree.provisional import (
    SPARE_PLACE,
    PageSum,
    add_sum,
    is_provisional,
    next_txid,
    page_sum,
    spare_place,
    summand,
)
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.btree.test_btree_meta import metas

PAGE = 4096
ROOT = "/db"


def metas_of(content: bytes) -> list[Meta]:
    return [Meta.decode(content[page * PAGE :]) for page in (0, 1)]


@given(st.integers(0, 2**40), st.integers(1, 20))
def test_a_txid_tells_a_provisional_commit_from_a_durable_one(durable: int, commits: int) -> None:
    """An odd distance of at least 3, which no run of durable commits leaves between two metas; and never D's page."""
    base = Meta(PAGE, 3, 2, 4, durable)
    txid = durable
    for _ in range(commits):
        txid = next_txid(txid, durable)
        newest = base._replace(txid=txid)
        assert is_provisional(newest, base) and newest.page != base.page
    assert not is_provisional(base._replace(txid=txid + 1), newest), "the durable commit after them"


sums = st.builds(PageSum, st.integers(0, 2**63), st.integers(0, 2**64 - 1))


@given(metas, sums)
def test_a_sum_comes_back_with_its_meta(meta: Meta, told: PageSum) -> None:
    """After the meta, and within its area."""
    data = add_sum(meta.encode(), *told)
    assert page_sum(Meta.decode(data)) == told
    assert len(data) <= META_AREA_BYTES
    assert page_sum(meta) is None


@given(metas, sums, st.integers(80, 107), st.integers(0, 7))
def test_a_damaged_sum_is_none(meta: Meta, told: PageSum, at: int, bit: int) -> None:
    """The meta is whole then, and not to be believed."""
    damaged = bytearray(add_sum(meta.encode(), *told))
    damaged[at] ^= 1 << bit
    assert page_sum(Meta.decode(bytes(damaged))) is None


@given(metas, sums)
def test_a_sum_belongs_to_one_meta(meta: Meta, told: PageSum) -> None:
    """Its checksum covers the meta: after another one it is none."""
    data = add_sum(meta.encode(), *told)
    other = meta._replace(txid=meta.txid ^ 1)
    assert page_sum(Meta.decode(other.encode() + data[80:])) is None


def test_summands_tell_pages_apart() -> None:
    """Exchanged checksums don't cancel out."""
    assert summand(5, 1234) + summand(6, 9999) != summand(5, 9999) + summand(6, 1234)
    assert len({summand(pgid, 77) for pgid in range(10_000)}) == 10_000


@pytest.mark.parametrize(("page_bytes", "place"), [(4096, 512), (640, 512), (639, 128), (256, 128), (255, 0), (80, 0)])
def test_the_spare_place_lies_in_its_page_and_not_on_the_meta(page_bytes: int, place: int) -> None:
    """In another sector where the page is large enough; 0: there is none."""
    assert spare_place(page_bytes) == place
    assert place == 0 or META_AREA_BYTES <= place <= page_bytes - META_AREA_BYTES


def killed(env: SimEnv) -> SimEnv:
    """The disk that the next process finds after kill -9."""
    return env.crash(Policy.EVERYTHING, random.Random(0))


def test_txids_tell_synced_from_unsynced_commits() -> None:
    """Plus 1 and a freelist for a synced commit; plus 3, then plus 2, and none for unsynced ones: D's meta stays."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    store.put(b"a", b"1")

    def txids() -> list[int]:
        return [meta.txid for meta in metas_of(env.files()[ROOT])]

    durable = max(txids())
    other = durable % 2  # the page of the durable meta
    for distance in (3, 5, 7):
        store.put(b"a", b"%d" % distance, sync=False)
        assert txids()[other] == durable and txids()[1 - other] == durable + distance
        newest = metas_of(env.files()[ROOT])[1 - other]
        told = page_sum(newest)
        assert newest.freelist == NO_FREELIST and told is not None and told.base == durable
    store.put(b"a", b"synced", sync=True)
    assert sorted(txids()) == [durable + 7, durable + 8]
    newest = max(metas_of(env.files()[ROOT]), key=lambda meta: meta.txid)
    assert newest.freelist != NO_FREELIST and page_sum(newest) is None
    store.put(b"a", b"unsynced", sync=False)
    store.flush()
    assert sorted(txids()) == [durable + 11, durable + 12]


def test_a_kill_in_the_middle_of_a_meta_loses_nothing() -> None:
    """The meta of an unsynced commit is copied in user space, and a kill may cut that short at any byte: the spare place
    has it whole."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    for number in range(5):
        store.put(b"%d" % number, b"durable")
    for number in range(5, 8):
        store.put(b"%d" % number, b"unsynced", sync=False)
    before = env.files()[ROOT]
    store.put(b"8", b"unsynced", sync=False)
    content = env.files()[ROOT]
    newest = max(metas_of(content), key=lambda meta: meta.txid).page * PAGE
    whole = metas_of(content)[newest // PAGE]
    spare = content[newest + SPARE_PLACE : newest + SPARE_PLACE + 128]
    assert Meta.decode(spare) == whole
    for length in range(109):
        image = killed(env)
        image.poke(ROOT, content[: newest + length] + before[newest + length : newest + 128] + content[newest + 128 :])
        assert check_file(image, ROOT) == [] or 16 < length < 80
        again = BTreeStore(ROOT, env=image)
        assert len(dict(again.scan())) == 9 or (length < 40 and content[:length] == before[:length])
        again.put(b"x", b"y")
        assert again.check() == []


@pytest.mark.parametrize("stale", [False, True])
def test_a_missing_page_costs_the_unsynced_commits_only(stale: bool) -> None:
    """A page that the power cut has lost is empty, or holds an older version with a valid checksum of its own: the sum
    finds both out, and the last durable commit counts."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    for number in range(300):
        store.put(b"%03d" % number, b"durable" * 5)
    expected = dict(store.scan())
    store.put(b"007", b"first", sync=False)
    older = env.files()[ROOT]
    for number in range(40):
        store.put(b"%03d" % (number * 7), b"%d" % number, sync=False)
    newest = dict(store.scan())
    newer = env.files()[ROOT]
    checked = 0
    for page in range(2, len(newer) // PAGE):
        now, before = newer[page * PAGE : (page + 1) * PAGE], older[page * PAGE : (page + 1) * PAGE]
        if now == before:
            continue
        image = killed(env)
        lost = before if stale else bytes(PAGE)
        image.poke(ROOT, newer[: page * PAGE] + lost + newer[(page + 1) * PAGE :])
        recovered = BTreeStore(ROOT, env=image)
        found = dict(recovered.scan())
        assert found in (expected, newest)
        checked += found == expected
        assert recovered.check() == []
        metas = metas_of(image.files()[ROOT])
        assert abs(metas[0].txid - metas[1].txid) == 1, "what was rejected can never come back"
    assert checked >= 3, "the leaf, a branch or two, and the root bucket's leaf"
