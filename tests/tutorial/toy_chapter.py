"""The tests of an unsound chapter, for test_author.py: not named as pytest's are, so that nothing else collects them."""

from engines.bitcask.record import encode_tombstone, is_tombstone, tombstone_file


def test_the_file_of_a_tombstone() -> None:
    assert tombstone_file(encode_tombstone(1, b"k", 7)[15:]) == 7


def test_vacuous() -> None:
    assert len("one") == 3


def test_of_a_later_chapter() -> None:
    assert tombstone_file(encode_tombstone(1, b"k", 7)[15:]) == 7
    assert is_tombstone(b"bitcask_tombstone")
