"""Plain and fast: the same bytes on disk and the same answers, whatever is done to two stores."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from engines import CorruptionError
from engines.btree import BTreeStore, check_file
from engines.btree.current import Current, State
from engines.btree.cursor import leaves_forward
from engines.btree.fast import FAST, decoding, point_commits
from engines.btree.fast import even as even_module
from engines.btree.fast.decoding import decode
from engines.btree.fast.meta import encode_meta, encode_provisional
from engines.btree.fast.point_commits import PointCommits
from engines.btree.fast.reading import find_in_leaf, read_one
from engines.btree.fast.splicing import cut_leaf, join_leaves, splice_branch, splice_leaf
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.node import Node
from engines.btree.page import BRANCH, LEAF, BucketValue, PageError, branch_body, leaf_body, with_trailer
from engines.btree.parts import PLAIN, Parts
from engines.btree.provisional import add_sum
from engines.btree.recovery import create
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.btree.test_btree_meta import metas
from tests.btree.test_btree_page import keys_and_values

ROOT = "/db"


def store_of(parts: Parts, env: SimEnv, **options: int) -> BTreeStore:
    class Store(BTreeStore):
        pass

    Store.parts = parts
    return Store(ROOT, env=env, sync=False, **options)  # type: ignore[arg-type]


class _Pair:
    """A plain and a fast store, to which the same is done."""

    def __init__(self, rng: random.Random, page_size: int, *, even: bool = False) -> None:
        self._rng = rng
        self._even = even  # values of one size
        self._options = {"page_size": page_size}
        self._envs = [SimEnv(0), SimEnv(0)]
        self._open()

    def _open(self) -> None:
        self.plain, self.fast = (store_of(parts, env, **self._options) for parts, env in zip((PLAIN, FAST), self._envs))

    def reopen(self, *, kill: bool) -> None:
        if kill:
            self._envs = [env.crash(Policy.EVERYTHING, random.Random(0)) for env in self._envs]
        else:
            self.both(BTreeStore.close)
        self._open()

    def both(self, call: Callable[[BTreeStore], object]) -> None:
        assert call(self.plain) == call(self.fast)
        plain, fast = (env.files()[ROOT] for env in self._envs)
        assert plain == fast, "the files differ"

    def step(self) -> None:
        rng = self._rng
        key = b"%03d" % rng.randrange(400)
        value = b"v" * rng.choice((0, 1, 20, 20, 20, 60, 900 if rng.random() < 0.1 else 3))
        if self._even and rng.random() < 0.99:
            value = rng.randbytes(20)
        keys = sorted({b"%03d" % rng.randrange(400) for _ in range(rng.choice((2, 5, 90)))})
        sync = rng.random() < 0.05
        choice = rng.random()
        if choice < 0.45:
            self.both(lambda store: store.put(key, value, sync=sync))
        elif choice < 0.75:
            self.both(lambda store: store.delete(key, sync=sync))
        elif choice < 0.85:
            self.both(lambda store: [store.get(key) for key in keys])
        elif choice < 0.93:
            self.both(lambda store: _write(store, keys, value, sync))
        elif choice < 0.96:
            self.both(lambda store: _write_beside_a_reader(store, key, value))
        elif choice < 0.98:
            self.both(lambda store: list(store.scan(reverse=sync)))
        else:
            self.both(rng.choice((BTreeStore.flush, BTreeStore.compact)))


def _write(store: BTreeStore, keys: list[bytes], value: bytes, sync: bool) -> None:
    with store.batch(sync=sync) as batch:
        for key in keys:
            batch.put(key, value) if key[0] % 3 else batch.delete(key)


def _write_beside_a_reader(store: BTreeStore, key: bytes, value: bytes) -> dict[bytes, bytes]:
    with store.view() as view:
        store.put(key, value)
        store.delete(key + b"x")
        store.put(key + b"y", value)
        return dict(view.scan())


@pytest.mark.parametrize(
    ("page_size", "even", "decoded"), [(1024, False, 0), (4096, False, 0.25), (1024, True, 0), (1024, True, 0.25)]
)
def test_the_same_operations_leave_the_same_file(
    rng: random.Random, page_size: int, even: bool, decoded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every step, byte for byte; also after a kill, a close, a compaction, and beside readers."""
    monkeypatch.setattr(even_module, "DECODED_PART", decoded)
    pair = _Pair(rng, page_size, even=even)
    for number in range(900):
        pair.step()
        if number % 150 == 149:
            pair.reopen(kill=number % 300 == 149)
    pair.both(lambda store: (store.stats().bytes_written, store.stats().puts, store.stats().deletes, store.check()))


def test_what_the_fast_form_writes_is_sound_in_small_pages() -> None:
    """Pages of 256 bytes have their spare place at 128; the path is deep."""
    envs = [SimEnv(0), SimEnv(0)]
    stores = []
    for env, parts in zip(envs, (PLAIN, FAST)):
        lock = create(env, ROOT, 256)
        assert lock is not None
        lock.close()
        stores.append(store_of(parts, env))
    for number in random.Random(1).sample(range(500), 500):
        for store in stores:
            store.put(b"%03d" % number, b"v" * (number % 7))
    assert envs[0].files() == envs[1].files()
    assert check_file(envs[1], ROOT) == []


def test_point_commits_do_most_of_the_work(rng: random.Random) -> None:
    """A put or a delete of one key takes the fast path; also with a split, or a leaf joined with its neighbour."""
    taken: list[bool] = []

    class Counting(PointCommits):
        def _apply_one(self, key: bytes, value: bytes | None) -> bool | None:
            done = super()._apply_one(key, value)
            taken.append(done is not None)
            return done

    store = store_of(FAST._replace(provisional=Counting), SimEnv(0))
    store.load((b"%05d" % number, b"v" * 50) for number in range(3_000))
    for _ in range(500):
        store.put(b"%05d" % rng.randrange(3_000), b"w" * 50)
        store.delete(b"%05d" % rng.randrange(3_000))
        assert len(list(store.scan(b"1", b"10001"))) < 9, "a reader that is gone is in nobody's way"
    for number in rng.sample(range(3_000), 3_000):
        store.put(b"%05d+" % number, b"w" * 50)
    for number in rng.sample(range(3_000), 2_900):
        store.delete(b"%05d+" % number)
    assert sum(taken) > 0.99 * len(taken)


# ------------------------------------------------------------------------------------------------------------ read_one


class _Interrupting(dict[int, Node]):
    """A cache of nodes in which a lookup is interrupted by something else, once."""

    interrupt: Callable[[int], None] | None = None

    def get(self, pgid: int) -> Node | None:  # type: ignore[override]
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt(pgid)
        return super().get(pgid)


def test_a_get_without_a_pin_is_not_led_astray() -> None:
    """Between two steps of a get, the leaf's page is given up, and another leaf is written there: get looks again."""
    store = store_of(FAST._replace(cache=_Interrupting), SimEnv(0))
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    store.put(b"0007", b"mine", sync=False)
    nodes = store._current.state.pager.nodes
    assert isinstance(nodes, _Interrupting)

    def write_there(pgid: int) -> None:
        store.put(b"0007", b"moved", sync=False)
        number = 400
        while pgid not in nodes or b"0007" in nodes[pgid].keys:
            store.put(b"%04d" % number, b"elsewhere", sync=False)
            number += 1

    nodes.interrupt = write_there
    assert store.get(b"0007") == b"moved"
    assert nodes.interrupt is None


def test_a_pin_in_the_middle_of_a_commit_is_seen_even_if_a_reader_has_counted_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The snapshot comes after the writer's first look at the pins, and is no longer in `arrived` at the second one."""
    store = store_of(FAST, SimEnv(0))
    for number in range(500):
        store.put(b"%04d" % number, b"old" * 10)
    snapshots = []

    def encode(meta: Meta, base: int, total: int) -> bytes:
        if not snapshots:
            snapshots.append(store.snapshot())
            pins = store._current.state.pager.pins
            while pins.arrived:
                store._current.pinned()  # and lets go: after 1,000 of these a reader counts
        return encode_provisional(meta, base, total)

    monkeypatch.setattr(point_commits, "encode_provisional", encode)
    for number in range(1500):
        store.put(b"%04d" % number, b"new" * 10)
    assert list(snapshots[0].scan()) == [(b"%04d" % number, b"old" * 10) for number in range(500)]
    assert store.check() == []


@pytest.mark.parametrize("left_first", [True, False])
def test_a_leaf_is_joined_with_a_neighbour_of_many_keys(left_first: bool) -> None:
    """Large pages have leaves of more keys than are spliced: such a join is the plain form's."""
    store = store_of(FAST, SimEnv(0), page_size=8192)
    keys = [b"%03x" % number for number in range(1200)]
    for key in keys:
        store.put(key, b"")
    gone = keys[:600] if left_first else keys[:600:-1]
    for key in gone:
        store.delete(key)
    assert [key for key, _ in store.scan()] == sorted({*keys} - {*gone})
    assert store.check() == []


def test_a_cached_get_pins_nothing_and_reads_nothing() -> None:
    """The cost, in counters; what isn't cached is read by the plain form."""
    store = store_of(FAST, SimEnv(0))
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    current: Current = store._current
    state: State = current.state
    assert [read_one(current, b"0007") for _ in range(2)] == [b"v" * 50] * 2
    reads, pins = state.pager.stats.reads, len(state.pager.pins.arrived)
    assert read_one(current, b"0007") == b"v" * 50 and read_one(current, b"0007x") is None
    assert (state.pager.stats.reads, len(state.pager.pins.arrived)) == (reads, pins)


@pytest.mark.parametrize("even", [True, False])
def test_the_first_reader_of_a_leaf_decodes_nothing(
    rng: random.Random, even: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key of each leaf, in a store just opened: the branches are cached, and no leaf. A second time, leaves that aren't
    even are decoded; even ones never are, unless there is room."""
    monkeypatch.setattr(even_module, "DECODED_PART", 0)
    env = SimEnv(0)
    store = store_of(FAST, env)
    sizes = [50 if even else 49 + number % 3 for number in range(3_000)]
    store.load((b"%05d" % number, b"v" * size) for number, size in enumerate(sizes))
    store.close()
    store = store_of(FAST, env)
    pager = store._current.state.pager
    leaves = [leaf.keys for leaf in leaves_forward(pager, store._current.state.root, b"")]
    assert len(leaves) > 40
    pager.forget_all()
    cached = []
    for _ in range(3):
        for keys in leaves:
            number = int(rng.choice(keys))
            assert (store.get(b"%05d" % number), store.get(b"%05d+" % number)) == (b"v" * sizes[number], None)
        cached.append((len(pager.nodes), len(pager.leaves)))
    assert cached == [(0, len(leaves)) if even else (len(leaves), 0)] * 3, (
        "each leaf was asked twice in the first round"
    )
    pager.forget_all()
    pager._met.clear()
    reads = pager.stats.reads
    for keys in leaves:
        assert store.get(keys[0]) == b"v" * sizes[int(keys[0])]
    assert not pager.nodes and pager.stats.reads == reads + len(leaves)


def test_what_is_damaged_is_refused_by_the_first_reader() -> None:
    """A flipped byte of a leaf that nobody has decoded."""
    store = store_of(FAST, SimEnv(0))
    store.load((b"%05d" % number, b"v" * 50) for number in range(3_000))
    state = store._current.state
    page = state.root.children[3] * state.pager.page_bytes
    state.pager.writable[page + 2000 : page + 2001] = b"x"
    with pytest.raises(CorruptionError, match="checksum"):
        store.get(state.root.keys[3])


# ------------------------------------------------------------------------------------------------------------- decoding

_RUN_BYTES = 4096


def _said(decode: Callable[[bytes, int], Node], run: bytes) -> object:
    try:
        node = decode(run, _RUN_BYTES)
    except PageError as error:
        return str(error)
    return node.keys, node.values, node.size_bytes, node.packed, node.pages, node.has_buckets, list(node.children)


@given(keys_and_values, st.binary(min_size=1, max_size=8), st.integers(0, 700), st.booleans())
def test_a_leaf_is_decoded_and_searched_as_the_plain_form_does(
    items: tuple[list[bytes], list[bytes]], other: bytes, place: int, sealed: bool
) -> None:
    """decode and find_in_leaf, on leaves that are whole, and with 8 bytes of rubbish in any place: the same node, or the
    same error; the value that the node has, or nothing said. `sealed`: under a right checksum, as no writer leaves it."""
    keys, values = items
    run, _ = with_trailer(7, LEAF, len(keys), leaf_body(keys, values), 1, _RUN_BYTES)
    for image in (run, run[:place] + other + run[place + len(other) :]):
        if sealed:
            image = image[:-4] + crc32c(image[:-4]).to_bytes(4, "little")
        plain = _said(Node.decode, image)
        assert _said(decode, image) == plain
        if isinstance(plain, tuple):
            for key in [*plain[0], other, b"\xff" * 9]:
                expected = dict(zip(plain[0], plain[1])).get(key)
                with suppress(PageError):
                    assert find_in_leaf(image, 7, key) == expected
        elif not sealed and image[-8:-4] == b"CRC1":
            with pytest.raises(PageError):
                find_in_leaf(image, 7, other)


@given(keys_and_values, st.binary(min_size=1, max_size=8), st.integers(0, 700), st.booleans())
def test_a_branch_is_decoded_as_the_plain_form_does(
    items: tuple[list[bytes], list[bytes]], other: bytes, place: int, sealed: bool
) -> None:
    """As above, without the search."""
    keys, _ = items
    run, _ = with_trailer(7, BRANCH, len(keys), branch_body(keys, range(5, 5 + len(keys))), 1, _RUN_BYTES)
    for image in (run, run[:place] + other + run[place + len(other) :]):
        if sealed:
            image = image[:-4] + crc32c(image[:-4]).to_bytes(4, "little")
        assert _said(decode, image) == _said(Node.decode, image)


@pytest.mark.parametrize("sealed", [True, False])
def test_each_byte_of_a_table_is_judged_as_the_plain_form_does(sealed: bool) -> None:
    """decode: one byte of the header or of an element has another value, under a right checksum and under the old one."""
    keys, values = [b"a", b"bb", b"cc"], [b"1", b"", b"33"]
    leaves = leaf_body(keys, values), leaf_body([b"", *keys[1:]], values)
    for flags, body in (*((LEAF, leaf) for leaf in leaves), (BRANCH, branch_body(keys, [5, 6, 7]))):
        run, _ = with_trailer(7, flags, len(keys), body, 1, _RUN_BYTES)
        for at in range(len(body) + 16):
            for byte in {0, 1, 255, run[at] ^ 1, (run[at] + 1) % 256, (run[at] - 1) % 256}:
                image = run[:at] + bytes([byte]) + run[at + 1 :]
                if sealed:
                    image = image[:-4] + crc32c(image[:-4]).to_bytes(4, "little")
                assert _said(decode, image) == _said(Node.decode, image), (at, byte)


def test_leaves_of_one_layout_share_it(rng: random.Random) -> None:
    """Pairs of the same sizes are taken apart by one table; others are not kept, and no more than MAX_LAYOUTS are."""
    layouts = decoding._layouts
    layouts.clear()
    for count in (9, 9, 9, 10):
        keys = [b"%04d" % number for number in sorted(rng.sample(range(9_999), count))]
        decode(with_trailer(7, LEAF, count, leaf_body(keys, [b"v" * 9] * count), 1, _RUN_BYTES)[0], _RUN_BYTES)
        decode(
            with_trailer(7, LEAF, count, leaf_body(keys, [*[b"v"] * (count - 1), b""]), 1, _RUN_BYTES)[0], _RUN_BYTES
        )
    assert len(layouts) == 2
    for size in range(decoding.MAX_LAYOUTS + 9):
        decode(with_trailer(7, LEAF, 1, leaf_body([b"k"], [b"v" * size]), 1, _RUN_BYTES)[0], _RUN_BYTES)
        assert len(layouts) <= decoding.MAX_LAYOUTS


# --------------------------------------------------------------------------------------------------------------- scans


@pytest.mark.parametrize("decoded", [0, 0.25])
def test_scans_between_any_bounds_show_the_same_pairs(
    rng: random.Random, decoded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scan_tree: bounds within a leaf, between two leaves, beyond either end; trees of one leaf, and of three levels."""
    monkeypatch.setattr(even_module, "DECODED_PART", decoded)
    for count in (0, 5, 40, 9_000):
        stores = [store_of(parts, SimEnv(0)) for parts in (PLAIN, FAST)]
        for store in stores:
            store.load((b"%05d" % number, b"v" * 50) for number in range(count))
        for _ in range(20):
            start, stop = (b"%05d" % rng.randrange(count + 9) for _ in range(2))
            for bounds in ((start, stop), (start, None), (start + b"x", stop), (b"", stop)):
                plain, fast = (list(store.scan(*bounds)) for store in stores)
                assert plain == fast


# ------------------------------------------------------------------------------------------------------------ splicing


@given(keys_and_values, st.data())
def test_splicing_is_encoding_the_changed_lists(items: tuple[list[bytes], list[bytes]], data: st.DataObject) -> None:
    """splice_leaf: inserts, overwrites of any size, deletes, at any index."""
    keys, values = items
    body = leaf_body(keys, values)
    key, value = data.draw(st.binary(min_size=1, max_size=30)), data.draw(st.binary(max_size=100))
    at = data.draw(st.integers(0, len(keys)))
    inserted = splice_leaf(body, len(keys), at, False, key, value)
    assert inserted == leaf_body([*keys[:at], key, *keys[at:]], [*values[:at], value, *values[at:]])
    if keys:
        at = data.draw(st.integers(0, len(keys) - 1))
        replaced = splice_leaf(body, len(keys), at, True, keys[at], value)
        assert replaced == leaf_body(keys, [*values[:at], value, *values[at + 1 :]])
        deleted = splice_leaf(body, len(keys), at, True, keys[at], None)
        assert deleted == leaf_body(keys[:at] + keys[at + 1 :], values[:at] + values[at + 1 :])


@given(keys_and_values, st.data())
def test_leaves_are_cut_and_joined_in_their_bytes(items: tuple[list[bytes], list[bytes]], data: st.DataObject) -> None:
    """cut_leaf, join_leaves: as encoding the parts, and the whole."""
    keys, values = items
    whole = Node.leaf(keys, values)
    cuts = sorted({0, len(keys), *data.draw(st.lists(st.integers(0, len(keys)), max_size=3))})
    pieces = [whole.part(start, stop) for start, stop in pairwise(cuts)]
    bodies = [piece.body() for piece in pieces]
    assert cut_leaf(whole.body(), pieces) == bodies
    joined, count = b"", 0
    for piece, body in zip(pieces, bodies):
        joined = join_leaves(joined, count, body, len(piece.keys))
        count += len(piece.keys)
    assert joined == whole.body()


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=40, unique=True), st.data())
def test_a_spliced_branch_is_the_plain_one(keys: list[bytes], data: st.DataObject) -> None:
    """splice_branch: any elements in the place of any others, of any number."""
    keys.sort()
    children = list(range(100, 100 + len(keys)))
    low = data.draw(st.integers(0, len(keys) - 1))
    high = data.draw(st.integers(low + 1, len(keys)))
    new_keys = data.draw(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
    new_children = list(range(7, 7 + len(new_keys)))
    spliced = splice_branch(branch_body(keys, children), len(keys), low, high, new_keys, new_children)
    keys[low:high], children[low:high] = new_keys, new_children
    assert spliced == branch_body(keys, children)


def test_splicing_keeps_bucket_flags() -> None:
    """An element's flags stay, and a new bucket has its own."""
    keys, values = [b"a", b"b", b"c"], [b"1", BucketValue(bytes(16)), b"3"]
    body = leaf_body(keys, values)
    changed = BucketValue(b"\1" * 16)
    assert splice_leaf(body, 3, 1, True, b"b", changed) == leaf_body(keys, [b"1", changed, b"3"])
    assert splice_leaf(body, 3, 0, True, b"a", b"longer") == leaf_body(keys, [b"longer", *values[1:]])
    assert splice_leaf(body, 3, 3, False, b"d", changed) == leaf_body([*keys, b"d"], [*values, changed])


# --------------------------------------------------------------------------------------------------------------- metas


@given(metas)
def test_an_encoded_meta_is_the_plain_one(meta: Meta) -> None:
    """encode_meta: another way to the same checksum."""
    assert encode_meta(meta) == meta.encode()


@given(metas, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_encoded_provisional_meta_is_the_plain_one(meta: Meta, base: int, total: int) -> None:
    """encode_provisional: for pages and txids of any size, as for the small ones that it has unrolled."""
    small = Meta(4096, meta.root % 1000, NO_FREELIST, meta.high_water % 100_000, meta.txid % (1 << 24))
    for each in (meta, small):
        assert encode_provisional(each, base, total) == add_sum(each.encode(), base, total)
