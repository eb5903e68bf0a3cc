"""The tests of the toy course's first chapter: red while put_varint is cut."""

from types import ModuleType

from engines import coding


def use(module: ModuleType) -> None:
    """Takes the functions from another module (see tests/tutorial/conftest.py)."""
    global coding
    coding = module


def test_small_numbers_are_one_byte() -> None:
    assert coding.put_varint(5) == b"\x05"


def test_large_numbers_are_several_bytes() -> None:
    assert coding.put_varint(300) == b"\xac\x02", "300 is ac 02"


def test_the_largest_number_has_ten_bytes() -> None:
    assert len(coding.put_varint(2**64 - 1)) == 10
