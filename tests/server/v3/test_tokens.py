"""Tokens: their time, their bound, and that no table has them in clear."""

from __future__ import annotations

import pytest

from server.v3.tokens import TOKEN_S, Held, Tokens, digest_of, index_of, new_letters

ALICE = Held("alice", b"record")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_found_by_its_letters_and_its_index():
    tokens = Tokens(Clock())
    letters = new_letters()
    tokens.assign(digest_of(letters), 42, ALICE)
    assert tokens.find(f"{letters}.42") == ALICE
    assert tokens.find(f"{letters}.43") is None
    assert tokens.find(f"{new_letters()}.42") is None
    assert tokens.find(digest_of(letters) + ".42") is None, "what the log has is no token"


@pytest.mark.parametrize(
    "text", ["", "nonsense", "abc.", ".42", "abc.x", "abc.-1", "abc.42 ", "abc.4.2", "abc.٤٢", "a" * 65 + ".1"]
)
def test_what_has_not_the_form_is_none(text):
    assert index_of(text) is None
    assert Tokens(Clock()).find(text) is None


def test_each_use_gives_it_its_whole_time_again():
    clock = Clock()
    tokens = Tokens(clock)
    tokens.assign(digest_of("used"), 1, ALICE)
    tokens.assign(digest_of("left"), 2, ALICE)
    for _ in range(3):
        clock.now += TOKEN_S - 1
        assert tokens.find("used.1") == ALICE
    assert tokens.find("left.2") is None
    clock.now += TOKEN_S
    assert tokens.find("used.1") is None
    assert len(tokens) == 0


def test_the_one_that_was_used_least_recently_ends():
    tokens = Tokens(Clock(), most=2)
    tokens.assign(digest_of("a"), 1, ALICE)
    tokens.assign(digest_of("b"), 2, ALICE)
    assert tokens.find("a.1") == ALICE
    tokens.assign(digest_of("c"), 3, ALICE)
    assert [tokens.find(token) for token in ("a.1", "b.2", "c.3")] == [ALICE, None, ALICE]


def test_letters_are_drawn_anew():
    assert len({new_letters() for _ in range(100)}) == 100
    assert all(len(new_letters()) == 16 for _ in range(10))


def test_a_token_of_an_entry_from_before_the_start_is_none():
    tokens = Tokens(Clock())
    tokens.restart(7)
    for index in (6, 7, 8):
        tokens.assign(digest_of("letters"), index, ALICE)
    assert [tokens.find(f"letters.{index}") for index in (6, 7, 8)] == [None, None, ALICE]
