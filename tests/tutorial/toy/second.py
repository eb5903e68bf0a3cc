"""The tests of the toy course's second chapter: red while put_slice and get_slice are cut."""

from types import ModuleType

from engines import coding


def use(module: ModuleType) -> None:
    """Takes the functions from another module (see tests/tutorial/conftest.py)."""
    global coding
    coding = module


def test_a_slice_is_written_after_its_length() -> None:
    assert coding.put_slice(b"hi") == b"\x02hi"


def test_a_slice_is_read_again() -> None:
    assert coding.get_slice(coding.put_slice(b"hi") + b"more", 0) == (b"hi", 3)
