"""The grammar of script files (raft/interaction/datadriven.py), and that rewriting changes the outputs alone."""

from __future__ import annotations

import pytest

from raft.interaction.datadriven import Argument, ScriptError, parse_line, parse_script, rewritten


@pytest.mark.parametrize(
    ("line", "command", "arguments"),
    [
        ("raft-state", "raft-state", []),
        ("campaign 1", "campaign", [("1",)]),
        ("status  2\t3", "status", [("2",), ("3",)]),
        ("add-nodes 3 voters=(1,2,3) index=10", "add-nodes", [("3",), ("voters", "1", "2", "3"), ("index", "10")]),
        ("committed cfg=(1, 2) idx=(_, 12)", "committed", [("cfg", "1", "2"), ("idx", "_", "12")]),
        ("f x=(a, (b, c), d(e, f))", "f", [("x", "a", "(b, c)", "d(e, f)")]),
        ("f x=()", "f", [("x",)]),
        ("f x=", "f", [("x", "")]),
        ("deliver-msgs drop=3", "deliver-msgs", [("drop", "3")]),
        ("propose 1 prop_1.@-", "propose", [("1",), ("prop_1.@-",)]),
        ("f x=a(b)=c", "f", [("x", "a(b)=c")]),
    ],
)
def test_a_line_is_a_command_with_arguments(line: str, command: str, arguments: list[tuple[str, ...]]) -> None:
    """Words, key=value, and key=(value, value) with spaces after the commas."""
    expected = tuple(Argument(key, tuple(values)) for key, *values in arguments)
    assert parse_line(line, "f:1") == (command, expected)


@pytest.mark.parametrize("line", ["f x=(1, 2", "f x=((1)", "(f)", "f )", "f x=(1) =2"])
def test_a_line_that_makes_no_sense_is_named_with_its_place(line: str) -> None:
    with pytest.raises(ScriptError, match=r"^a\.txt:7: "):
        parse_line(line, "a.txt:7")


SCRIPT = """# What it is about.

first 1 2
----
one
two

# A comment in between.
second x=(1, \\
  2)
input

more input
----
----
with

blank lines
----
----

third
----
"""


def test_a_script_is_read_with_comments_continued_lines_input_and_blank_lines_in_outputs() -> None:
    first, second, third = parse_script("a.txt", SCRIPT).directives
    assert (first.where, first.command, first.expected) == ("a.txt:3", "first", "one\ntwo\n")
    assert (second.where, second.arguments) == ("a.txt:9", (Argument("x", ("1", "2")),))
    assert (second.given, second.expected) == ("input\n\nmore input", "with\n\nblank lines\n")
    assert (third.command, third.expected, third.end) == ("third", "", "")


def test_writing_the_expected_outputs_gives_the_same_bytes() -> None:
    script = parse_script("a.txt", SCRIPT)
    assert rewritten(script, [directive.expected for directive in script.directives]) == SCRIPT


def test_another_output_changes_nothing_else() -> None:
    """And one with a blank line gets the doubled separators that it needs."""
    text = rewritten(parse_script("a.txt", SCRIPT), ["1\n\n2\n", "ok\n", "ok\n"])
    assert [directive.expected for directive in parse_script("a.txt", text).directives] == ["1\n\n2\n", "ok\n", "ok\n"]
    assert "# A comment in between." in text
    assert text.endswith("third\n----\nok\n")


def test_a_tail_without_a_command_stays() -> None:
    text = "f\n----\nok\n\n# The end.\n"
    assert rewritten(parse_script("a.txt", text), ["ok\n"]) == text


def test_an_output_ends_at_a_line_of_white_space_and_only_newlines_end_a_line() -> None:
    """Go's scanner knows no other line ends than \\n; Python's splitlines does."""
    (directive,) = parse_script("a.txt", "f\n----\na\x0bb\u2028c\n  \n").directives
    assert directive.expected == "a\x0bb\u2028c\n"
    assert directive.end == "  \n"


def test_an_output_may_end_with_the_file() -> None:
    assert parse_script("a.txt", "f\n----\nok").directives[0].expected == "ok\n"


def test_a_command_without_separator_is_refused() -> None:
    with pytest.raises(ScriptError, match=r"a\.txt:2: campaign has no ---- after it"):
        parse_script("a.txt", "# x\ncampaign 1\n\nraft-state\n")
