"""engines/pairs.py: what `load` lets pass. That each engine keeps its old content is the conformance suite's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.errors import InvalidKey, InvalidValue
from engines.kvstore import Pair
from engines.pairs import ascending


def test_ascending_pairs_pass_one_by_one() -> None:
    """A load needs the memory of one pair: nothing is read before it is asked for."""
    read: list[bytes] = []

    def pairs() -> Iterator[Pair]:
        for key in (b"a", b"b", b"c"):
            read.append(key)
            yield key, key.upper()

    passed = ascending(pairs())
    assert next(passed) == (b"a", b"A")
    assert read == [b"a"]
    assert list(passed) == [(b"b", b"B"), (b"c", b"C")]


@pytest.mark.parametrize("second", [b"b", b"a", b"B"])
def test_a_key_that_is_not_above_the_one_before_it_is_refused(second: bytes) -> None:
    """The same key twice, too; order is the order of bytes, so that "B" is below "b"."""
    with pytest.raises(
        InvalidKey, match=f"load wants strictly ascending keys, and b'{second.decode()}' comes after b'b'"
    ):
        list(ascending([(b"b", b"1"), (second, b"2")]))


@pytest.mark.parametrize("key", [b"", "text", b"k" * 32_769])
def test_a_key_that_cannot_be_written_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidKey):
        list(ascending([(key, b"1")]))


def test_a_value_must_be_bytes() -> None:
    with pytest.raises(InvalidValue):
        list(ascending([(b"a", None)]))  # type: ignore[list-item]


def test_an_engine_checks_values_in_its_own_way() -> None:
    def short(value: object) -> None:
        if len(value) > 1:  # type: ignore[arg-type]
            raise InvalidValue("too long")

    assert list(ascending([(b"a", b"1")], short)) == [(b"a", b"1")]
    with pytest.raises(InvalidValue, match="too long"):
        list(ascending([(b"a", b"12")], short))
