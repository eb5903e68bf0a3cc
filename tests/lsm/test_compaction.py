"""engines/lsm/compaction.py: which compaction is next, by LevelDB's rules and ours, on layouts written as text
(layouts.py).
"""

from __future__ import annotations

import pytest

from engines.lsm.compaction import in_place, manual, pick, scores
from engines.lsm.job import Job
from engines.lsm.keys import VALUE, internal_key
from engines.lsm.options import Options
from tests.lsm.layouts import NOW, OPTIONS, told, version_of

PICKS = {
    "three tables in level 0 are not enough": ("0: 1:a-b 2:a-b 3:a-b", "nothing"),
    "four are, and those that overlap by way of others come along": (
        "0: 1:a-c 2:b-f 3:e-h 4:x-z\n1: 9:d-g 10:i-w",
        "size 0>1: 1 2 3 + 9",
    ),
    "a level counts bytes": ("1: 1:a-c*99", "nothing"),
    "a full level gives its first table": ("1: 1:a-c*50 2:d-f*50\n2: 9:b-b", "size 1>2: 1 + 9"),
    "the fuller level is first": ("0: 1:a-b 2:a-b 3:a-b 4:a-b\n1: 5:c-d*250", "size 1>2: 5 moved"),
    "the higher level is first when both are as full": (
        "0: 1:a-b 2:a-b 3:a-b 4:a-b\n1: 5:c-d*100",
        "size 0>1: 1 2 3 4",
    ),
    "level 5 holds 10,000 times as much": ("5: 1:a-b*999999", "nothing"),
    "and then it is full": ("5: 1:a-b*1000000\n6: 2:a-a", "size 5>6: 1 + 2"),
    "level 6 is never full": ("6: 1:a-b*99999999", "nothing"),
    "a table that meets nothing is moved": ("1: 1:a-c*200\n2: 2:d-e", "size 1>2: 1 moved"),
    "but not onto more than ten tables of grandparents": (
        "1: 1:a-f*200\n3: 8:b-c*501 9:e-e*500",
        "size 1>2: 1 | 8 9",
    ),
    "ten of them are fine": ("1: 1:a-f*200\n3: 8:b-c*500 9:e-e*500", "size 1>2: 1 | 8 9 moved"),
    "grandparents are those of the whole range": (
        "1: 1:c-d*200\n2: 2:a-c 3:d-f\n3: 7:a-a 8:b-b 9:f-f 10:g-g",
        "size 1>2: 1 + 2 3 | 7 8 9",
    ),
    "a neighbour joins in if that adds nothing below": (
        "1: 1:a-c*60 2:d-f*60\n2: 9:b-e",
        "size 1>2: 1 2 + 9",
    ),
    "not if it would add something below": ("1: 1:a-c*60 2:d-f*60\n2: 8:b-d 9:e-g", "size 1>2: 1 + 8"),
    "not if it all became too large": ("1: 1:a-c*60 2:d-f*1500\n2: 9:b-e*940", "size 1>2: 1 + 9"),
    "just not too large": ("1: 1:a-c*60 2:d-f*1500\n2: 9:b-e*939", "size 1>2: 1 2 + 9"),
    "a user key on both sides of a border takes both tables": (
        "1: 1:a-m#5*60 2:m#4-q*60\n2: 9:b-b",
        "size 1>2: 1 2 + 9",
    ),
    "and on through several of them": (
        "1: 1:a-m#5*90 2:m#4-m#3 3:m#2-q 4:r-z",
        "size 1>2: 1 2 3",
    ),
    "below as well": ("1: 1:a-m*200\n2: 8:b-m#5 9:m#4-q", "size 1>2: 1 + 8 9"),
}


@pytest.mark.parametrize(("layout", "expected"), PICKS.values(), ids=list(PICKS))
def test_the_next_compaction(layout: str, expected: str) -> None:
    """version_set.cc: PickCompaction, SetupOtherInputs, IsTrivialMove, AddBoundaryInputs (rules 1 to 5)."""
    assert told(pick(version_of(layout), OPTIONS, {}, NOW)) == expected


@pytest.mark.parametrize(
    ("pointer", "number"), [(None, 1), ("a", 1), ("c", 2), ("d", 2), ("f", 3), ("z", 1), ("c#101", 1), ("c#99", 2)]
)
def test_the_level_is_gone_through_in_turn(pointer: str | None, number: int) -> None:
    """Rule 2: the first table that ends after the compact pointer, and again from the beginning."""
    version = version_of("1: 1:a-c*100 2:d-f*100 3:g-i*100")
    pointers = {}
    if pointer is not None:
        key, _, sequence = pointer.partition("#")
        pointers[1] = internal_key(key.encode(), int(sequence or 100), VALUE)
    chosen = pick(version, OPTIONS, pointers, NOW)
    assert chosen is not None
    assert [file.number for file in chosen.upper] == [number]
    assert chosen.pointer == chosen.upper[0].largest


def test_the_compact_pointer_is_the_largest_key_of_the_inputs() -> None:
    chosen = pick(version_of("0: 1:a-x 2:b-c 3:b-y 4:b-d"), OPTIONS, {}, NOW)
    assert chosen is not None
    assert chosen.pointer == internal_key(b"y", 100, VALUE)


def test_scores() -> None:
    """Rule 1: files of level 0; bytes of the others, each level ten times the one above; level 6 has none."""
    version = version_of("0: 1:a-b*500 2:a-b\n1: 3:a-b*150\n2: 4:a-b*250\n5: 5:a-b*500000\n6: 6:a-b*99999999")
    assert scores(version, OPTIONS) == [0.5, 1.5, 0.25, 0, 0, 0.5]


TOMBSTONES = {
    "half of them are not enough": ("1: 1:a-c!5/10@50", "nothing"),
    "more are": ("1: 1:a-c!6/10@50\n2: 2:b-b", "tombstones 1>2: 1 + 2"),
    "a full level goes first": ("1: 1:a-c!9/10@50\n2: 2:b-b*1000", "size 2>3: 2 moved"),
    "the worst table goes first": ("1: 1:a-c!6/10@50 2:d-f!7/10@50\n2: 3:e-e", "tombstones 1>2: 2 + 3"),
    "a snapshot may need what they hide": ("1: 1:a-c!9/10@1001", "nothing"),
    "moved while something deeper is hidden": ("1: 1:a-c!9/10@50\n4: 2:b-b", "tombstones 1>2: 1 moved"),
    "rewritten when nothing is": ("1: 1:a-c!9/10@50\n4: 2:d-e", "tombstones 1>2: 1"),
    "on the last level in its place": ("6: 1:a-c!9/10@50 2:d-f", "tombstones 6>6: 1"),
}


@pytest.mark.parametrize(("layout", "expected"), TOMBSTONES.values(), ids=list(TOMBSTONES))
def test_tombstones_have_a_score(layout: str, expected: str) -> None:
    """Rule 6, which is ours."""
    assert told(pick(version_of(layout), OPTIONS, {}, NOW)) == expected


def test_tombstones_have_none_unless_asked() -> None:
    options = Options(max_file_bytes=100, tombstone_ratio=None)
    assert pick(version_of("1: 1:a-c!9/10@50"), options, {}, NOW) is None


def test_a_manual_compaction_goes_in_steps() -> None:
    """From level 1 on a table's size at a time; from level 0 all that overlaps; nothing is moved without being read."""
    version = version_of("0: 1:a-c 2:b-d 3:x-z\n1: 4:a-b*60 5:c-d*60 6:e-f*60\n2: 7:c-c")
    assert told(manual(version, OPTIONS, 0, b"d", b"e")) == "manual 0>1: 1 2 + 4 5 | 7"
    assert told(manual(version, OPTIONS, 1, None, None)) == "manual 1>2: 4 5 + 7"
    assert told(manual(version, OPTIONS, 1, b"e", b"e")) == "manual 1>2: 6"
    assert told(manual(version, OPTIONS, 1, b"g", None)) == "nothing"
    assert told(in_place(version, 1, version.levels[1][0], "manual")) == "manual 1>1: 4"


def test_a_job_knows_its_surroundings() -> None:
    """Job.of: level 0 newest first, each table a run of its own; the ranges below the output; the grandparents."""
    version = version_of("0: 1:a-c 2:b-f 3:e-h 4:x-z\n1: 9:d-g\n2: 10:a-b 11:g-j 12:k-l\n3: 13:c-c\n6: 14:h-z 15:zz-zz")
    chosen = pick(version, OPTIONS, {}, NOW)
    assert chosen is not None
    job = Job.of(chosen, version, 50, 77)
    assert [[file.number for file in files] for files in job.runs] == [[3], [2], [1], [9]]
    assert job.deeper == [[(b"a", b"b"), (b"g", b"j")], [(b"c", b"c")], [(b"h", b"z")]]
    assert job.grandparents == [(b"b", 10), (b"j", 10)]
    assert (job.smallest_snapshot, job.max_sequence, job.last_sequence) == (50, 77, 77)
    held = [key for key in (b"a", b"b", b"bb", b"c", b"d", b"g", b"gz", b"h") if not job.is_base(key)]
    assert held == [b"a", b"b", b"c", b"g", b"gz", b"h"]
    assert job.most_tables(10) >= 4 + 2


def test_a_job_of_a_deeper_level_has_one_run_for_each_level() -> None:
    version = version_of("1: 1:a-c*60!0/1@40 2:d-f*60!0/1@60\n2: 9:b-e!0/1@30")
    chosen = pick(version, OPTIONS, {}, NOW)
    assert chosen is not None
    job = Job.of(chosen, version, NOW, NOW)
    assert [[file.number for file in files] for files in job.runs] == [[1, 2], [9]]
    assert job.max_sequence == 60, "what the tables say about themselves is more exact than the store's last sequence"
