"""engines/options.py and engines/keywords.py: what a store can be told, and what is refused, alike on every engine."""

from __future__ import annotations

import subprocess
import sys
import typing
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

import engines
from engines import InvalidOption, keywords
from engines.memory import MemoryStore
from engines.options import Bounds, EngineOptions, from_text
from engines.simenv import SimEnv

REPOSITORY = Path(__file__).parents[2]
KEYWORDS = {
    "memory": keywords.MemoryKeywords,
    "lsm": keywords.LsmKeywords,
    "btree": keywords.BTreeKeywords,
    "bitcask": keywords.BitcaskKeywords,
}


@dataclass(frozen=True, kw_only=True)
class Paint(EngineOptions):
    """Options of an engine that isn't there:

    colour    of the pages
    pages     how many there are; more is faster,
              and takes more memory
    """

    engine: ClassVar[str] = "paint"

    colour: Literal["red", "blue"] | None = "red"
    pages: Annotated[int, Bounds(least=1)] = 10
    share: Annotated[float, Bounds(above=0, most=1)] = 0.5
    label: Annotated[bytes, Bounds(least=1, most=3)] = b"a"
    limit: int | None = None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"sync": "no"}, "wants sync to be True or False, and this is 'no'"),
    ({"sync": 1}, "wants sync to be True or False, and this is 1"),
    ({"read_only": None}, "wants read_only to be True or False, and this is None"),
    ({"create": "yes"}, "wants create to be True or False, and this is 'yes'"),
    ({"colour": "green"}, "wants colour to be 'red', 'blue' or None, and this is 'green'"),
    ({"pages": 0}, "wants pages to be an integer of at least 1, and this is 0"),
    ({"pages": True}, "wants pages to be an integer of at least 1, and this is True"),
    ({"pages": 1.0}, "wants pages to be an integer of at least 1, and this is 1.0"),
    ({"pages": "9" * 100}, "this is '" + "9" * 59 + "…"),
    ({"share": 0}, "wants share to be a number above 0 and at most 1, and this is 0"),
    ({"share": 1.5}, "wants share to be a number above 0 and at most 1, and this is 1.5"),
    ({"share": float("nan")}, "and this is nan"),
    ({"label": b""}, "wants label to be bytes with a length from 1 to 3, and this is b''"),
    ({"label": "a"}, "wants label to be bytes with a length from 1 to 3, and this is 'a'"),
    ({"limit": "no"}, "wants limit to be an integer or None, and this is 'no'"),
    (
        {"color": "red"},
        "has no option 'color': it has colour, create, label, limit, pages, plain, read_only, share, sync",
    ),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=[str(given)[:30] for given, _ in REFUSED])
def test_a_refusal_says_what_was_wanted_and_what_was_given(given: dict[str, Any], sentence: str) -> None:
    """One sentence for a name, a type and a bound; a bool is no integer."""
    with pytest.raises(InvalidOption) as refusal:
        Paint.of(given)
    assert str(refusal.value).startswith("the engine 'paint' ")
    assert sentence in str(refusal.value)


def test_what_is_allowed_is_kept() -> None:
    """An integer is a float; None where it may be; nothing can be changed afterwards."""
    told = Paint.of({"share": 1, "colour": None, "limit": 0, "label": b"abc", "sync": False})
    assert (told.share, told.colour, told.limit, told.label, told.sync) == (1, None, 0, b"abc", False)
    assert (told.create, told.read_only, told.pages) == (True, False, 10)
    with pytest.raises(FrozenInstanceError):
        told.pages = 3  # type: ignore[misc]


def test_the_docstring_says_what_an_option_means() -> None:
    """A line that begins with the name and two spaces; an indented one goes on."""
    described = Paint.described()
    assert described["pages"].meaning == "how many there are; more is faster, and takes more memory"
    assert described["sync"].meaning.startswith("a write is on the disk when it returns")
    assert str(described["colour"]) == "colour='red': 'red', 'blue' or None; of the pages"


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_engine_tells_its_options(engine: str) -> None:
    """engines.options: type, default and meaning of each; those of every engine among them."""
    told = engines.options(engine)
    assert {"sync", "create", "read_only"} <= told.keys()
    for name, option in told.items():
        assert option.name == name
        assert option.allows(option.default), "what is not said makes sense"
        assert option.meaning, f"the docstring of {engine}'s Options says nothing about {name}"


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_engine_refuses_in_the_same_words(engine: str) -> None:
    """A name, a type: InvalidOption (three engines raised TypeError, and took sync="no"), before anything is made."""
    env = SimEnv()
    for given, sentence in (
        ({"sync": "no"}, f"the engine {engine!r} wants sync to be True or False, and this is 'no'"),
        ({"read_only": "yes"}, f"the engine {engine!r} wants read_only to be True or False, and this is 'yes'"),
        ({"create": 0}, f"the engine {engine!r} wants create to be True or False, and this is 0"),
        ({"colour": "red"}, f"the engine {engine!r} has no option 'colour': it has "),
    ):
        for opening in (engines.open, lambda path, engine, **rest: engines.engine_class(engine)(path, **rest)):
            with pytest.raises(InvalidOption) as refusal:
                opening("/dir/store", engine, env=env, **given)
            assert str(refusal.value).startswith(sentence)
    assert not env.exists("/dir")


class Own(MemoryStore):
    """A learner's engine: its options are its constructor's keywords."""

    name = "own"

    def __init__(self, path: str, *, env: Any = None, sync: bool = True, colour: str = "red") -> None:
        super().__init__(path, env=env, sync=sync)
        self.colour = colour


def test_an_engine_of_ones_own_is_told_by_its_constructor(tmp_path: Path) -> None:
    """Names are checked, types are its own business."""
    where = f"{__file__}:Own"
    told = engines.options(where)
    assert [(option.name, option.default) for option in told.values()] == [("sync", True), ("colour", "red")]
    given: dict[str, Any] = {"colour": "blue"}
    with engines.open(tmp_path / "store", where, **given) as store:
        assert store.colour == "blue"  # type: ignore[attr-defined]
    given = {"color": "blue"}
    with pytest.raises(InvalidOption, match="the engine 'own' has no option 'color': it has colour, sync"):
        engines.open(tmp_path / "store", where, **given)


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_the_typed_keywords_are_the_options(engine: str) -> None:
    """engines.keywords repeats what the engines' dataclasses say: names and types, but for their bounds."""
    declared = engines.engine_class(engine).option_class
    assert declared is not None
    bare = typing.get_type_hints(declared)
    del bare["engine"]
    assert typing.get_type_hints(KEYWORDS[engine]) == bare


SNIPPET = """
from pathlib import Path
from typing import Any

import engines

with engines.open(Path("data"), max_frozen=2) as lsm:
    reveal_type(lsm)
engines.open("data", "btree", page_size=1024, read_only=True)
engines.open("data", "memory", sync=False)
name: str = "bitcask"
own: dict[str, Any] = {"colour": "red"}
engines.open("data", name, sync=False, **own)
engines.open("data", "btree", max_frozen=2)  # no option of it
engines.open("data", "lsm", sync="no")  # no bool
engines.open("data", "bitcask", merge="sometimes")  # none of three
engines.open("data", "memory", colour="red")  # no option of it
"""


def test_mypy_knows_every_engines_options(tmp_path: Path) -> None:
    """The overloads of engines.open: a wrong name or type is an error before the program runs."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--follow-imports=silent"]
    command += ["--cache-dir", str(tmp_path / "cache"), str(tmp_path / "snippet.py")]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    told = [line for line in ran.stdout.splitlines() if "snippet.py:" in line]
    assert any("note: Revealed type is" in line and "LsmStore" in line for line in told), ran.stdout + ran.stderr
    wrong = {int(line.split(":")[1]) for line in told if " error: " in line}
    lines = SNIPPET.splitlines()
    assert wrong == {number for number, line in enumerate(lines, 1) if "  # no" in line}, ran.stdout


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("sync=false", False),
        ("sync=True", True),
        ("colour=blue", "blue"),
        ("colour=none", None),
        ("pages=4_000", 4000),
        ("share=0.25", 0.25),
        ("share=1", 1.0),
        ("label=a=b", b"a=b"),
        ("limit=None", None),
        ("limit=12", 12),
    ],
)
def test_a_command_line_says_options_as_text(word: str, value: object) -> None:
    """`metcd serve --option NAME=VALUE`: the engine's annotation says what the text means."""
    (name,) = given = from_text("paint", Paint.described(), [word])
    assert given == {name: value}
    assert type(given[name]) is type(value)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("sync", "an option is NAME=VALUE, and this is 'sync'"),
        ("=1", "an option is NAME=VALUE, and this is '=1'"),
        ("sync=no", "the engine 'paint' wants sync to be True or False, and this is 'no'"),
        ("pages=many", "the engine 'paint' wants pages to be an integer of at least 1, and this is 'many'"),
        ("pages=0", "the engine 'paint' wants pages to be an integer of at least 1, and this is '0'"),
        ("colour=green", "the engine 'paint' wants colour to be 'red', 'blue' or None, and this is 'green'"),
        ("color=red", "the engine 'paint' has no option 'color': it has "),
    ],
)
def test_a_wrong_word_of_a_command_line_is_refused(word: str, sentence: str) -> None:
    """In the words of the others."""
    with pytest.raises(InvalidOption) as refusal:
        from_text("paint", Paint.described(), [word])
    assert str(refusal.value).startswith(sentence)
