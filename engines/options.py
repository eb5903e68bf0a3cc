"""Options of a store: each engine's are one frozen dataclass, and one function checks all of them.

    @dataclass(frozen=True, kw_only=True)
    class Options(EngineOptions):
        \"\"\"colour      of the pages\"\"\"

        engine: ClassVar[str] = "mine"
        colour: Literal["red", "blue"] = "red"
        max_pages: Annotated[int, Bounds(least=1)] = 100

The annotation says what a value may be: `bool`, `int`, `float`, `str`, `bytes`, a `Literal`, any of these `| None`, with
`Bounds` for numbers (for bytes: for their length). The docstring says what each option means, a line for each that
begins with its name and two spaces. From these two come the check at every opening, `engines.options("mine")`, and
`metcd serve --option colour=blue`; so every engine refuses in the same words:

    the engine 'lsm' has no option 'colour': it has block_bytes, cache_bytes, …
    the engine 'lsm' wants block_bytes to be an integer of at least 1, and this is 0
    the engine 'lsm' wants sync to be True or False, and this is 'no'

A bool is no integer here, although Python says so: `max_pages=True` is a mistake. An integer is a float.

Left out: options of several values, and aliases. A rule between two options is the engine's own, in `__post_init__`.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from engines.env import plain_everywhere
from engines.errors import InvalidOption

__all__ = ["Bounds", "EngineOptions", "Option", "from_text", "options_of_constructor"]

SHOWN = 60  # characters of a refused value


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which numbers an option takes, or how many bytes. `above` is left out of the range, `least` and `most` are in it."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def hold(self, value: float) -> bool:
        """False for a NaN, too."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        """ " of at least 1", " from 0.1 to 1.0", " above 0 and at most 1"."""
        if self.least is not None and self.most is not None:
            return f" from {self.least:,} to {self.most:,}"
        if self.above is not None:
            return f" above {self.above:,}" + ("" if self.most is None else f" and at most {self.most:,}")
        return f" of at least {self.least:,}" if self.least is not None else f" of at most {self.most:,}"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of an engine: its name, its type as annotated, what it is if nothing is said, and what it means."""

    name: str
    type: Any
    default: Any
    meaning: str

    @property
    def wanted(self) -> str:
        """The type in words: "an integer of at least 1 or None"."""
        return _words(self.type)

    def allows(self, value: object) -> bool:
        """True if the value has the type, and lies in the bounds."""
        return _allows(self.type, value)

    def __str__(self) -> str:
        return f"{self.name}={self.default!r}: {self.wanted}; {self.meaning}"


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What every engine can be told. Raises InvalidOption for a value of a wrong type or out of its bounds.

    sync         a write is on the disk when it returns, unless the call itself says otherwise
    create       make a store if none is there; False: NoSuchStore then
    read_only    change nothing, not even after a crash; a writer elsewhere keeps it out, another reader doesn't
    plain        every idea in its textbook form, without the accelerations of the engine's `fast`; METCD_PLAIN=1 in the
                 environment says so for every store
    """

    engine: ClassVar[str] = "?"

    sync: bool = True
    create: bool = True
    read_only: bool = False
    plain: bool = False

    def __post_init__(self) -> None:
        for option in self.described().values():
            value = getattr(self, option.name)
            if not option.allows(value):
                raise self.refusal(option.name, option.wanted, value)

    @property
    def fast(self) -> bool:
        """True if the engine installs its accelerations."""
        return not (self.plain or plain_everywhere())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The options that a caller gave by name. Raises InvalidOption for an unknown name, too."""
        check_names(cls.engine, cls.described(), given)
        return cls(**given)

    @classmethod
    def refusal(cls, name: str, wanted: str, value: object) -> InvalidOption:
        """The error that says what an option should be, and what was given."""
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "…"
        return InvalidOption(f"the engine {cls.engine!r} wants {name} to be {wanted}, and this is {shown}")

    @classmethod
    def described(cls) -> dict[str, Option]:
        """All options by name, as the class declares them."""
        if (known := _described.get(cls)) is None:
            kinds = get_type_hints(cls, include_extras=True)
            meanings = _meanings(EngineOptions) | _meanings(cls)
            known = _described[cls] = {
                field.name: Option(field.name, kinds[field.name], field.default, meanings.get(field.name, ""))
                for field in fields(cls)
            }
        return known


_described: dict[type, dict[str, Option]] = {}  # to read the annotations takes 100 µs, too long for each opening


def _meanings(declared: type) -> dict[str, str]:
    """The lines of a docstring that begin with a name and two spaces; what is indented goes on with the line above.

    Empty under `python -OO`, which has no docstrings.
    """
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(declared.__doc__ or "").splitlines():
        if begun := re.fullmatch(r"(\w+) {2,}(\S.*)", line):
            name, found[begun[1]] = begun[1], begun[2]
        elif name and line.startswith("  "):
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return found


def check_names(engine: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Raises InvalidOption for the first name that the engine doesn't have."""
    known = sorted(known)
    for name in given:
        if name not in known:
            raise InvalidOption(f"the engine {engine!r} has no option {name!r}: it has {', '.join(known)}")


def options_of_constructor(engine: type[Any]) -> dict[str, Option] | None:
    """The options of an engine that has no EngineOptions: its constructor's keywords. None if it takes any keyword.

    Nothing checks their types but the engine itself.
    """
    found = {}
    for parameter in list(inspect.signature(engine).parameters.values())[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        if parameter.name != "env" and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found[parameter.name] = Option(parameter.name, Any, parameter.default, "")
    return found


# ---- types ----------------------------------------------------------------------------------------------------------

_NAMES = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    bytes: "bytes",
    types.NoneType: "None",
    Any: "anything",
}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The parts of a union; a type alone is its only part."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _words(kind: Any) -> str:
    words = [word for part in _alternatives(kind) for word in _words_of_part(part)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _words_of_part(kind: Any) -> list[str]:
    if get_origin(kind) is Annotated:
        inner, bounds = get_args(kind)[:2]
        return [f"{_words(inner)}{' with a length' if inner is bytes else ''}{bounds}"]
    if get_origin(kind) is Literal:
        return [repr(value) for value in get_args(kind)]
    return [_NAMES.get(kind, str(kind))]


def _allows(kind: Any, value: object) -> bool:
    if kind is Any:
        return True
    if get_origin(kind) is Annotated:
        inner, bounds = get_args(kind)[:2]
        measured: Any = len(value) if isinstance(value, bytes) else value
        return _allows(inner, value) and (value is None or bounds.hold(measured))
    if get_origin(kind) is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(kind))
    parts = _alternatives(kind)
    if len(parts) > 1:
        return any(_allows(part, value) for part in parts)
    return type(value) is kind or (kind is float and type(value) is int)


# ---- from a command line --------------------------------------------------------------------------------------------


def from_text(engine: str, known: Mapping[str, Option], words: Iterable[str]) -> dict[str, Any]:
    """Options as they are typed, ["max_frozen=8", "filter=none"], by name and with the type that the engine declares.

    True and False are "true" and "false", None is "none"; numbers are as Python writes them ("4_000_000"). An option of
    no declared type stays text. Raises InvalidOption, for a value that is out of its bounds, too.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InvalidOption(f"an option is NAME=VALUE, and this is {word!r}")
        check_names(engine, known, [name])
        values = list(filter(known[name].allows, _readings(known[name].type, text)))
        if not values:
            raise InvalidOption(f"the engine {engine!r} wants {name} to be {known[name].wanted}, and this is {text!r}")
        found[name] = values[0]
    return found


def _readings(kind: Any, text: str) -> Iterable[Any]:
    """What the text can mean for the type: none or one value for a simple type, in turn those of a union's parts."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    for part in _alternatives(kind):
        if get_origin(part) is Annotated:
            yield from _readings(part, text)
        elif get_origin(part) is Literal:
            yield from (each for each in get_args(part) if each == text or (each is None and text.lower() == "none"))
        elif part is types.NoneType:
            if text.lower() == "none":
                yield None
        elif part is bool:
            if text.lower() in ("true", "false"):
                yield text.lower() == "true"
        elif part in (int, float):
            try:
                yield part(text)
            except ValueError:
                continue
        elif part is bytes:
            yield text.encode("utf-8", "surrogateescape")
        else:
            yield text
