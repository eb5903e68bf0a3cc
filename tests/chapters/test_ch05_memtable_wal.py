"""Chapter 5: a log whose records survive a torn end, and a memtable that keeps every version in order."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator

import pytest

from engines.coding import DecodeError, get_varint32, get_varint64, put_varint
from engines.errors import CorruptionError
from engines.kvstore import Operation
from engines.log import BLOCK_BYTES, LogReader, decode_fragment, encode_record, encode_records, fragment_checksum
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, Row
from engines.lsm.memtable import MemTable
from engines.lsm.skiplist import MAX_HEIGHT, SkipList
from engines.lsm.state import State
from engines.lsm.wal import decode_batch, encode_batch, replay
from engines.simenv import Policy, SimEnv
from tests.chapters.kit import History, power_cuts, rounds
from tests.chapters.lsm_parts import Counted, LogAndMemtable, LogSubject, real_log, require_same_bytes, rows
from tests.crash.machine import ROOT

Batch = tuple[int, list[Operation]]

# what tests/lsm/golden/README.md says that LevelDB was told
REAL_BATCHES: list[Batch] = [
    (1, [(b"a", b"1"), (b"b", b""), (b"c", None)]),
    (4, [(b"a", b"2")]),
    (5, [(b"long", b"0123456789" * 7000)]),
    (6, [(b"b", None)]),
    (7, [(b"end", b"\x00\xff")]),
]
SMALL_BATCHES: list[Batch] = [
    (1, [(b"a", b"1"), (b"b", b"two"), (b"a", None)]),
    (4, [(b"c", b"")]),
    (5, [(b"a", b"three"), (b"d", b"4" * 30)]),
]


def on_disk(content: bytes) -> SimEnv:
    """A disk on which /1.log has the content."""
    env = SimEnv()
    file = env.open("/1.log", "w")
    file.append(content)
    file.close()
    return env


# ---- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (16_384, "80 80 01"),
        (2**32 - 1, "ff ff ff ff 0f"),
        (2**64 - 1, "ff ff ff ff ff ff ff ff ff 01"),
    ],
)
def test_a_varint_has_seven_bits_in_each_byte(value: int, encoded: str) -> None:
    """LevelDB's util/coding.cc; and it comes back, wherever in a buffer it stands."""
    raw = put_varint(value)
    assert raw.hex(" ") == encoded, f"put_varint({value}) gave {raw.hex(' ')}, and {encoded} was expected"
    assert get_varint64(b"\xff\xff" + raw + b"\x07", 2) == (value, 2 + len(raw))
    if value < 2**32:
        assert get_varint32(raw, 0) == (value, len(raw))


def test_a_varint_that_is_cut_or_too_large_is_refused() -> None:
    """A decoder never reads past its bytes, and never gives a number that the format can't hold."""
    whole = put_varint(2**64 - 1)
    for size in range(len(whole)):
        with pytest.raises(DecodeError):
            get_varint64(whole[:size], 0)
    for raw, decode in (
        (put_varint(2**32), get_varint32),
        (b"\x80" * 5 + b"\x00", get_varint32),
        (b"\xff" * 9 + b"\x02", get_varint64),
        (b"\x80" * 10 + b"\x01", get_varint64),
    ):
        with pytest.raises(DecodeError):
            pytest.fail(f"{decode.__name__} of {raw.hex(' ')} gave {decode(raw, 0)}, and DecodeError was expected")
    for offset in (1, 2, -1):
        with pytest.raises(DecodeError):
            pytest.fail(f"of 1 byte, offset {offset} gave {get_varint64(bytes([1]), offset)}")
    assert get_varint32(b"\x80\x00", 0) == (0, 2), "longer than it need be, and LevelDB reads it"


# ---- a batch is one record --------------------------------------------------------------------------------------------


def test_a_batch_has_leveldbs_bytes() -> None:
    """LevelDB's write_batch.cc: sequence, count, operations. An empty batch is the header alone."""
    assert encode_batch(100, [(b"foo", b"bar"), (b"box", None)]).hex(" ") == (
        "64 00 00 00 00 00 00 00 02 00 00 00 01 03 66 6f 6f 03 62 61 72 00 03 62 6f 78"
    )
    assert encode_batch(7, []) == struct.pack("<QI", 7, 0)
    for sequence, operations in [*REAL_BATCHES, (MAX_SEQUENCE - 1, [(b"k", b"")]), (9, [])]:
        assert decode_batch(encode_batch(sequence, operations)) == (sequence, operations)


def test_a_batch_that_says_something_impossible_is_refused() -> None:
    """A record whose checksum is right may have been written by anybody: nothing in it is believed."""
    whole = encode_batch(5, [(b"key", b"value"), (b"gone", None)])
    for size in range(len(whole)):
        with pytest.raises(DecodeError):
            pytest.fail(f"the first {size} of {len(whole)} bytes gave {decode_batch(whole[:size])}")
    for bad, why in (
        (whole[:8] + b"\x01" + whole[9:], "one operation more than it announces"),
        (whole[:8] + b"\x03" + whole[9:], "one operation fewer than it announces"),
        (whole[:12] + b"\x02" + whole[13:], "an operation that is neither 0 nor 1"),
        (struct.pack("<QI", MAX_SEQUENCE - 1, 2) + whole[12:], "sequence + operations above MAX_SEQUENCE"),
    ):
        with pytest.raises(DecodeError):
            pytest.fail(f"a batch with {why} gave {decode_batch(bad)}, and DecodeError was expected")


# ---- blocks and fragments ---------------------------------------------------------------------------------------------


def test_a_record_is_cut_at_the_borders_of_blocks() -> None:
    """LevelDB's log_format.md, and the three invariants of the writer, at every distance from a block's end that matters."""
    found = encode_record(0, b"hello")
    assert found.hex(" ") == "0b b9 57 58 05 00 01 68 65 6c 6c 6f", (
        f"a FULL of b'hello' has other bytes: {found.hex(' ')}"
    )
    full, first, middle, last = 1, 2, 3, 4
    for left, size, expected in (
        (100, 93, [(full, 93)]),  # it just fits
        (100, 94, [(first, 93), (last, 1)]),
        (100, 93 + BLOCK_BYTES - 7, [(first, 93), (last, BLOCK_BYTES - 7)]),  # the last one just fits
        (8, 5, [(first, 1), (last, 4)]),
        (7, 5, [(first, 0), (last, 5)]),  # invariant 2
        (7, 0, [(full, 0)]),
        (6, 5, [(full, 5)]),  # invariant 1: zeros, and the next block
        (1, 0, [(full, 0)]),
        (6, BLOCK_BYTES - 6, [(first, BLOCK_BYTES - 7), (last, 1)]),
        (50, 2 * BLOCK_BYTES, [(first, 43), (middle, BLOCK_BYTES - 7), (last, BLOCK_BYTES - 36)]),
    ):
        encoded = encode_record(BLOCK_BYTES - left, bytes(range(256)) * (size // 256) + bytes(size % 256))
        at = left if left < 7 else 0
        assert encoded[:at] == bytes(at), f"with {left} bytes left in the block, zeros were expected in them"
        fragments = []
        while at < len(encoded):
            checksum, length, kind = struct.unpack_from("<IHB", encoded, at)
            data = encoded[at + 7 : at + 7 + length]
            assert checksum == fragment_checksum(kind, data), f"the checksum of fragment {len(fragments)} is wrong"
            fragments.append((kind, length))
            at += 7 + length
        assert fragments == expected, f"{size} bytes with {left} left in the block: (type, length) of its fragments"


def test_a_log_of_real_leveldb_is_replayed() -> None:
    """Golden: LevelDB 1.22 wrote it; one of its records goes over three blocks."""
    found = list(replay(on_disk(real_log()), "/1.log"))
    assert [(sequence, len(operations)) for sequence, operations in found] == [(1, 3), (4, 1), (5, 1), (6, 1), (7, 1)]
    assert found == REAL_BATCHES


def test_our_log_is_real_leveldbs_byte_for_byte() -> None:
    """The other direction: told the same, we write the same."""
    require_same_bytes(encode_records(0, [encode_batch(*batch) for batch in REAL_BATCHES]), real_log())


def test_a_fragment_is_believed_only_if_its_checksum_is_right() -> None:
    """Each single bit of a fragment is flipped; and a length beyond the block is never followed."""
    block = bytes(5) + encode_record(5, b"some data") + b"more"
    size = 7 + len(b"some data")
    assert decode_fragment(block, 5) == (1, b"some data")
    for bit in range(8 * size):
        damaged = bytearray(block)
        damaged[5 + bit // 8] ^= 1 << bit % 8
        found = decode_fragment(bytes(damaged), 5)
        assert found is None, f"bit {bit % 8} of byte {bit // 8} of the fragment was flipped, and it gave {found}"
    for end in range(12, 5 + size):
        assert decode_fragment(block[:end], 5) is None, "the block ends before the fragment does"
    for kind in (0, 5, 255):
        assert decode_fragment(struct.pack("<IHB", fragment_checksum(kind, b""), 0, kind), 0) is None, f"type {kind}"


def test_fragments_in_a_wrong_order_are_no_record() -> None:
    """Invariant 7 of the log: a crash may leave whole fragments of an older file. What was read before them stays."""

    def fragment(kind: int, data: bytes) -> bytes:
        return struct.pack("<IHB", fragment_checksum(kind, data), len(data), kind) + data

    full, first, middle, last = 1, 2, 3, 4
    good = fragment(full, b"one") + fragment(first, b"t") + fragment(middle, b"w") + fragment(last, b"o")
    for wrong in (
        [(middle, b"x")],
        [(last, b"x")],
        [(first, b"x"), (full, b"y")],
        [(first, b"x"), (first, b"y"), (last, b"z")],
        [(first, b"x")],
        [(first, b"x"), (middle, b"y")],
    ):
        reader = LogReader(good + b"".join(fragment(*each) for each in wrong), "1.log", testimony=None)
        told = [("?", "FULL", "FIRST", "MIDDLE", "LAST")[kind] for kind, _ in wrong]
        assert list(reader) == [(0, b"one"), (10, b"two")], f"after two whole records: {told}"
        assert reader.end == len(good), f"after {told}, a writer has to go on where the last whole record ends"
        assert reader.torn is not None and reader.torn.offset == len(good), f"{told} is a torn tail from its first byte"


def test_a_reader_knows_where_each_record_ends() -> None:
    """`end` and `end_before`, as they are while the record is in the caller's hands; `reject` takes it back."""
    payloads = [b"one", b"x" * BLOCK_BYTES, b"", b"three"]
    ends = [0]
    for number in range(1, len(payloads) + 1):
        ends.append(len(encode_records(0, payloads[:number])))
    reader = LogReader(encode_records(0, payloads), "1.log", testimony=None)
    for number, (_, payload) in enumerate(reader):
        assert payload == payloads[number]
        found, expected = (reader.end_before, reader.end), (ends[number], ends[number + 1])
        assert found == expected, f"record {number}: (end_before, end) {expected} was expected, {found} was found"
    reader.reject(ends[-2], "not ours")
    assert reader.end == ends[-2], "a rejected record is not in the log: a writer goes on before it"


def test_a_batch_cut_at_any_byte_is_there_or_not(history: History) -> None:
    """A torn write: the file ends anywhere. Whole batches come back, and nothing of the one that was cut."""
    records = [encode_batch(*batch) for batch in SMALL_BATCHES]
    ends = [len(encode_records(0, records[:count])) for count in range(len(records) + 1)]
    content = encode_records(0, records)
    for size in range(len(content) + 1):
        whole = sum(end <= size for end in ends) - 1
        history.clear()
        found = list(replay(on_disk(content[:size]), "/1.log"))
        history.expect(f"the batches in the first {size} bytes of a log", SMALL_BATCHES[:whole], found)


def test_a_flipped_bit_is_never_read_as_something_else(rng: random.Random) -> None:
    """Bit rot: what comes back is right, as far as it comes, or CorruptionError says where it ends."""
    content = encode_records(0, [encode_batch(*batch) for batch in SMALL_BATCHES])
    last = len(encode_records(0, [encode_batch(*batch) for batch in SMALL_BATCHES[:-1]]))
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        found: list[Batch] = []
        refused = False
        try:
            for batch in replay(on_disk(bytes(damaged)), "/1.log"):
                found.append(batch)
        except CorruptionError:
            refused = True
        assert found == SMALL_BATCHES[: len(found)], f"byte {at} is damaged, and a batch has changed"
        assert len(found) < 3, f"byte {at} is damaged, and nobody noticed"
        assert refused or at >= last, f"byte {at} is damaged before a whole later record: CorruptionError was expected"


# ---- the skiplist -----------------------------------------------------------------------------------------------------


def filled(rng: random.Random, count: int) -> tuple[SkipList, list[Row]]:
    """A skiplist, and its rows in order: some keys have several versions."""
    skiplist = SkipList(rng)
    versions = [(b"%04d" % rng.randrange(count), sequence, b"%d" % sequence) for sequence in range(1, count + 1)]
    for version in versions:
        skiplist.insert(Row.of(*version))
    return skiplist, rows(versions)


def test_a_skiplist_keeps_rows_in_order(rng: random.Random) -> None:
    """From any bound, in both directions, rows that are there and bounds that are not."""
    for count in (0, 1, 2, 300):
        skiplist, expected = filled(rng, count)
        assert len(skiplist) == count
        assert list(skiplist.ascend(Row.first_of(b""))) == expected
        assert list(skiplist.descend(None)) == expected[::-1]
        for bound in [Row.first_of(b"%04d" % number) for number in range(0, count + 3, 7)] + expected[::13]:
            found = list(skiplist.ascend(bound))
            assert found == [row for row in expected if row >= bound], f"from {bound} on, of {count} rows"
            assert list(skiplist.descend(bound)) == [row for row in expected if row < bound][::-1], f"before {bound}"


@pytest.mark.parametrize("order", ["ascending", "descending", "by chance"])
def test_a_search_takes_few_comparisons(rng: random.Random, order: str) -> None:
    """O(log n), whatever order the rows come in: 4 steps a level on average, and a level for each factor of 4."""
    count = 2_000
    numbers = list(range(count))
    if order == "descending":
        numbers.reverse()
    elif order == "by chance":
        rng.shuffle(numbers)
    skiplist = SkipList(rng)
    Counted.comparisons = 0
    for number in numbers:
        skiplist.insert(Row.of(Counted(b"%06d" % number), 1, b""))
    inserting = Counted.comparisons / count
    Counted.comparisons = 0
    for number in rng.sample(range(count), 300):
        assert next(skiplist.ascend(Row.first_of(b"%06d" % number))).key == b"%06d" % number
    searching = Counted.comparisons / 300
    most = 4 * math.log2(count)
    for what, found in (("an insertion", inserting), ("a search", searching)):
        assert found <= most, (
            f"{what} among {count} rows took {found:.0f} comparisons on average, and {most:.0f} are enough"
        )


class SameSide(random.Random):
    """A coin that always falls on the same side."""

    def random(self) -> float:
        return 2**-53

    def getrandbits(self, k: int, /) -> int:
        return 0


def heights_of(rng: random.Random, count: int) -> list[int]:
    """The heights of the nodes of a list of so many rows."""
    skiplist = SkipList(rng)
    for number in range(count):
        skiplist.insert(Row.of(b"%05d" % number, 1, b""))
    node = skiplist.seek(Row.first_of(b""))
    heights = []
    while node is not None:
        heights.append(len(node.next))
        node = node.next[0]
    return heights


def test_one_node_in_four_is_on_the_next_level(rng: random.Random) -> None:
    """Pugh's p = 1/4, seen from outside: of the nodes on a level, about a quarter are on the next; none is too high."""
    heights = heights_of(rng, 4_000)
    assert min(heights) == 1 and max(heights) <= MAX_HEIGHT, f"heights from {min(heights)} to {max(heights)}"
    for level in (1, 2, 3):
        here, above = (sum(height > floor for height in heights) for floor in (level - 1, level))
        assert 0.15 * here < above < 0.36 * here, f"{here} nodes are on level {level - 1}, and {above} on level {level}"
    assert heights_of(SameSide(), 1)[0] <= MAX_HEIGHT, "the coin fell on the same side each time"
    assert heights_of(random.Random(7), 200) == heights_of(random.Random(7), 200), (
        "two lists with equal rngs have other heights: all chance has to come from the list's own rng"
    )


def test_a_reader_goes_on_while_rows_are_inserted(rng: random.Random) -> None:
    """An iterator that is open meets all rows that were there before, and those that are inserted ahead of it."""
    skiplist, before = filled(rng, 300)
    seen: list[Row] = []
    ahead = set()
    for sequence, row in enumerate(skiplist.ascend(Row.first_of(b"")), 1_000):
        seen.append(row)
        if sequence < 1_300:
            near = sequence % 2 == 0 and len(row.key) == 4
            new = Row.of(
                row.key + b"+" if near else b"%04d" % rng.randrange(300), sequence, b""
            )  # near: it is the next one
            skiplist.insert(new)
            ahead |= {new} if new > row else set()
    assert seen == sorted(seen), "the rows that a reader met are not in order"
    assert set(before) <= set(seen), "a reader missed a row that was there before it began"
    assert set(seen) - set(before) == ahead, "a reader met other new rows than those that were inserted ahead of it"


def test_a_new_node_is_complete_before_it_can_be_found(rng: random.Random) -> None:
    """Invariant 4, between any two steps of an insertion: a reader on any level walks in order to the end."""
    first = None
    while first is None or len(first.next) < 3:  # one list in 16 has such a first node
        skiplist = SkipList(rng)
        skiplist.insert(Row.of(b"", 1, b""))
        first = skiplist.seek(Row.first_of(b""))
    for sequence in range(2, 62):
        skiplist.insert(Row.of(b"%04d" % rng.randrange(60), sequence, b""))

    def walk(level: int) -> list[Row]:
        """What a reader meets on a level, from the first node on."""
        walked, node = [], first
        while node is not None and level < len(node.next):
            walked.append(node.row)
            node = node.next[level]
        return walked

    class Links(list):  # type: ignore[type-arg]
        """The links of a node; when one of them is set, a reader walks along every level."""

        def __setitem__(self, level, node) -> None:  # type: ignore[no-untyped-def]
            super().__setitem__(level, node)
            for floor, known in enumerate(before):
                walked = walk(floor)
                assert walked == sorted(set(walked)), f"on level {floor}, a reader met rows out of order: {walked}"
                assert set(known) <= set(walked), f"on level {floor}, a reader came to an end before the last row"
                missing = set(walked) - set(walk(max(floor - 1, 0)))
                assert not missing, f"on level {floor} a reader met {missing}, which level {floor - 1} doesn't have"

    for sequence in range(1_000, 1_040):
        before = [walk(level) for level in range(len(first.next))]
        node = first
        while node is not None:
            node.next = Links(node.next)
            node = node.next[0]
        skiplist.insert(Row.of(b"%04d" % rng.randrange(60), sequence, b""))
    assert len(list(skiplist.ascend(Row.first_of(b"")))) == 101


def test_a_search_gives_the_row_that_it_compared() -> None:
    """Not the one that is linked there by then: a newer version of the key, which this reader must not see."""

    class Low(random.Random):
        """Every node is on level 0 only."""

        def random(self) -> float:
            return 0.999

        def getrandbits(self, k: int) -> int:
            return 1

        def randrange(self, *_: object) -> int:  # type: ignore[override]
            return 1

    skiplist = SkipList(Low())
    skiplist.insert(Row.of(b"a", 1, b"1"))
    skiplist.insert(Row.of(b"k", 2, b"2"))

    class Interrupted(bytes):
        """The key of a bound: after it was compared with the row that is not smaller, a writer comes in between."""

        __hash__ = bytes.__hash__

        def _then(self, other: bytes, answer: bool) -> bool:
            if bytes(other) == b"k" and len(skiplist) == 2:
                skiplist.insert(Row.of(b"k", 9, b"newer"))
            return answer

        def __eq__(self, other: object) -> bool:
            return bytes.__eq__(self, other)  # type: ignore[arg-type]

        def __lt__(self, other: bytes) -> bool:
            return self._then(other, bytes.__lt__(self, other))

        def __le__(self, other: bytes) -> bool:
            return self._then(other, bytes.__le__(self, other))

        def __gt__(self, other: bytes) -> bool:
            return self._then(other, bytes.__gt__(self, other))

        def __ge__(self, other: bytes) -> bool:
            return self._then(other, bytes.__ge__(self, other))

    found = skiplist.seek(Row.of(Interrupted(b"j"), 2, b""))
    assert len(skiplist) == 3, "nothing was compared"
    assert found is not None and found.row == Row.of(b"k", 2, b"2"), (
        f"row k@2 was compared, k@9 was inserted meanwhile, and the search gave {found and found.row}"
    )


# ---- the memtable -----------------------------------------------------------------------------------------------------


def test_a_get_sees_the_newest_version_that_is_not_too_new(rng: random.Random) -> None:
    """As of any sequence: a value, None for a deleted key, ABSENT for one that nothing is known of."""
    memtable = MemTable(SkipList(rng))
    versions: list[tuple[bytes, int, bytes | None]] = []
    for sequence in range(1, 300):
        version = (b"%d" % rng.randrange(40), sequence, None if rng.random() < 0.2 else b"%d" % sequence)
        memtable.add(version[1], version[0], version[2])
        versions.append(version)
    for moment in (0, 1, 77, 150, 299, MAX_SEQUENCE):
        visible = {key: value for key, sequence, value in versions if sequence <= moment}
        for number in range(41):
            key = b"%d" % number
            expected, found = visible.get(key, ABSENT), memtable.get(key, moment)
            assert found == expected, f"get({key!r}) as of {moment}: {expected!r} was expected, and {found!r} was found"
    empty = MemTable(SkipList(rng))
    empty.add(1, b"k", b"")
    assert empty.get(b"k", 1) == b"", "an empty value is no deletion"


def test_the_rows_of_a_range_come_in_both_directions(rng: random.Random) -> None:
    """[start, stop), every version, and no more rows taken than asked for."""
    memtable = MemTable(SkipList(rng))
    versions = [(b"%02d" % rng.randrange(50), sequence, b"v") for sequence in range(1, 200)]
    for key, sequence, value in versions:
        memtable.add(sequence, key, value)
    expected = rows(versions)
    bounds = [b"", b"07", b"070", b"25", b"49", b"5"]
    for start in bounds:
        for stop in [*bounds, None]:
            inside = [row for row in expected if row.key >= start and (stop is None or row.key < stop)]
            told = f"rows({start!r}, {stop!r})"
            assert list(memtable.rows(start, stop)) == inside, told
            assert list(memtable.rows(start, stop, reverse=True)) == inside[::-1], f"{told}, in reverse"
    many = MemTable(Endless(expected))
    assert next(many.rows(b"")) == expected[0], "rows must not take what nobody has asked for"


class Endless:
    """Ordered rows that may be asked for one of them only."""

    def __init__(self, ordered: list[Row]) -> None:
        self._ordered = ordered

    def ascend(self, start: Row) -> Iterator[Row]:
        yield next(row for row in self._ordered if row >= start)
        raise AssertionError("a second row was taken, and one was asked for")

    def descend(self, stop: Row | None) -> Iterator[Row]:
        raise AssertionError("nobody asked for the other direction")

    def insert(self, row: Row) -> None: ...

    def __len__(self) -> int:
        return len(self._ordered)


# ---- the commit -------------------------------------------------------------------------------------------------------


def test_sync_returns_after_the_fsync() -> None:
    """Two promises: sync=True is on disk when it returns; sync=False makes no fsync for each write."""
    env = SimEnv()
    store = LogAndMemtable(env)
    for number in range(7):
        store.write([(b"k%d" % number, b"%d" % number), (b"again", b"%d" % number)], sync=True)
        after = LogAndMemtable(env.crash(Policy.NOTHING, random.Random(number)))
        assert store.pairs() == after.pairs(), f"write {number} returned, then the power failed"
    assert store.core.stats.fsyncs == 7, (
        f"7 writes with sync=True made {store.core.stats.fsyncs} fsyncs: LogFile.append has to know that a sync follows"
    )
    assert "lsm.wal.append" in env.sites, f"the log was synced under the names {sorted(env.sites)} only"
    store.write([(b"x", b"y")], sync=False)  # one fsync for a mark, with which the log says that more won't be synced
    fsyncs = store.core.stats.fsyncs
    for number in range(8):
        store.write([(b"k%d" % number, b"unsynced")], sync=False)
    assert store.core.stats.fsyncs == fsyncs, "a write with sync=False made an fsync"


def test_readers_see_a_batch_when_all_of_it_is_there() -> None:
    """Log, then memtable, then visible: while rows are being added, the last sequence is the old one, and a write with
    sync=True is on disk already."""
    store = LogAndMemtable(SimEnv())
    core = store.core
    seen: list[tuple[int, bool, int]] = []

    class Watching(SkipList):
        """Looks around whenever a row is added."""

        def insert(self, row: Row) -> None:
            assert core.log is not None
            seen.append((core.sequence, core.log.synced, row.sequence))
            super().insert(row)

    core.state = State(MemTable(Watching(random.Random(1))), (), core.state.version)
    store.write([(b"a", b"1"), (b"b", b"2"), (b"a", None)], sync=True)
    store.write([(b"c", b"4")], sync=False)
    for visible, synced, sequence in seen:
        assert visible == (0 if sequence <= 3 else 3), f"row {sequence} was added when readers saw up to {visible}"
        assert synced or sequence == 4, f"row {sequence} was in the memtable before its record was on disk"
    assert [sequence for _, _, sequence in seen] == [1, 2, 3, 4]
    assert core.sequence == 4
    assert store.pairs() == [(b"b", b"2"), (b"c", b"4")]


def test_acknowledged_writes_survive_a_power_cut_after_any_call(seed: int, history: History) -> None:
    """Whatever the disk keeps: each state is one that was there, none is older than the last sync=True, none is half a
    batch."""
    LogAndMemtable(SimEnv()).write([(b"a", b"1")], sync=True)  # what is not written yet is told here
    for number in range(rounds(8)):
        power_cuts(LogSubject(steps=12), seed + number, history, second_cut_share=0.01)


def test_a_log_that_was_replayed_is_gone_on_with(rng: random.Random) -> None:
    """Closed and opened again and again: every write is there, and sequences go on."""
    env, expected, last = SimEnv(), {}, 0
    for number in range(12):
        store = LogAndMemtable(env, ROOT)
        assert dict(store.pairs()) == expected, f"opened for time {number + 1}"
        assert store.core.sequence >= last
        for _ in range(5):
            key, value = b"%d" % rng.randrange(9), b"%d" % rng.randrange(1_000) * rng.choice((1, 900))
            store.write([(key, value)], sync=rng.random() < 0.5)
            expected[key] = value
        last = store.core.sequence
        store.close()
