"""What a run of `metcd bench` found: the document that `--json` writes, and that reports and comparisons are made of.

    Results ─┬─ subjects     what was compared: an engine of ours in some options, a learner's, a peer
             ├─ durability   what a write of each survives, by its own system calls
             └─ measured     one for each workload, subject, number of keys and repetition

A repetition is one fresh process. Growth is the same workload with other numbers of keys, and so needs no table of its own.
Times are seconds, sizes bytes. What a subject doesn't tell (a peer has no counters) is None, and never 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

__all__ = ["Counters", "Durability", "Latency", "Machine", "Measured", "Results", "ResultsFault", "Subject"]

FORMAT = "metcd-bench"
VERSION = 1


class ResultsFault(ValueError):
    """A document that isn't one of ours, with a sentence that says where."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it ran. `probe_ns` is the fastest turn of the probe loop in this run."""

    processor: str
    cores: int
    system: str
    python: str
    probe_ns: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One column of the comparison. kind: "engine", "learner" or "peer"; engine: what `engines.open` takes, "" for a peer.

    options: what differs from the engine's own. version: of the peer's package.
    """

    name: str
    kind: str
    engine: str = ""
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Durability:
    """What a write survives. synced: whether it was asked to be; the counts are of `puts` puts, from the system calls.

    survives: "nothing", "killed process" or "power cut".
    """

    subject: str
    synced: bool
    puts: int
    writes: int
    fsyncs: int
    survives: str


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Sums over a workload, as `engines.Stats` counts them.

    engine: what only this engine counts; sizes (the depth of a tree, the blocks in a cache) are those at the end.
    """

    pairs: int
    user_bytes: int
    bytes_written: int
    bytes_read: int
    reads: int
    fsyncs: int
    engine: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Of single operations, in seconds. percentiles: by their names, "50" to "99.9"; histogram: HdrHistogram's text."""

    count: int
    percentiles: dict[str, float]
    longest: float
    histogram: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One workload of one subject in one repetition.

    seconds: as the clock has it. normalised: at the speed that the probe loop had at its fastest. probe_ns: its median
    beside this workload. disk_bytes: of the store at the end; live_bytes: the keys and values in it. resident_bytes: how
    far the process has grown at most since before the store was opened, and what processes of the store's take. beside:
    puts that another thread made meanwhile. Counters and sizes are those of `operations`, seconds too.
    """

    subject: str
    workload: str
    keys: int
    repetition: int
    operations: int
    seconds: float
    normalised: float
    probe_ns: float
    counters: Counters | None = None
    latency: Latency | None = None
    disk_bytes: int | None = None
    live_bytes: int | None = None
    resident_bytes: int | None = None
    beside: int | None = None

    @property
    def rate(self) -> float:
        """Operations a second, at the probe's fastest."""
        return self.operations / self.normalised


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that one run found. settings: the words of the command that matter: value_bytes, seed, sync, ...

    notes: what is missing and why, a sentence each. failed: the subjects that didn't do all that they were asked to.
    """

    command: str
    begun: str  # ISO 8601, UTC
    machine: Machine
    settings: dict[str, Any]
    subjects: list[Subject]
    durability: list[Durability]
    measured: list[Measured]
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def encode(self) -> str:
        """As JSON. `failed` is there if there is any, so that a run without is the document that it always was."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        if not self.failed:
            del content["failed"]
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def decode(cls, text: str) -> Results:
        """The results in a document. Raises ResultsFault."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ResultsFault(f"this is no JSON: {error}") from None
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ResultsFault("this is no document of `metcd bench --json`: it has no format 'metcd-bench'")
        if (version := document.pop("version", None)) != VERSION:
            raise ResultsFault(f"this is version {version} of the document, and version {VERSION} is read")
        results: Results = _decode(cls, document, "results")
        return results


def _decode(kind: Any, value: Any, at: str) -> Any:
    """A value of this kind from what JSON made of it. Raises ResultsFault, which says where."""
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise ResultsFault(f"{at}: an object was expected, and this is {json.dumps(value)[:60]}")
        kinds = get_type_hints(kind)
        if foreign := value.keys() - kinds.keys():
            raise ResultsFault(f"{at}: nothing is called {', '.join(sorted(foreign))}")
        try:
            return kind(**{name: _decode(kinds[name], each, f"{at}.{name}") for name, each in value.items()})  # type: ignore[operator]
        except TypeError:
            missing = [each.name for each in fields(kind) if each.name not in value]
            raise ResultsFault(f"{at}: without {', '.join(missing)}") from None
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise ResultsFault(f"{at}: a list was expected, and this is {json.dumps(value)[:60]}")
        return [_decode(get_args(kind)[0], each, f"{at}[{number}]") for number, each in enumerate(value)]
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise ResultsFault(f"{at}: an object was expected, and this is {json.dumps(value)[:60]}")
        return {name: _decode(get_args(kind)[1], each, f"{at}.{name}") for name, each in value.items()}
    if type(None) in get_args(kind):
        return None if value is None else _decode(get_args(kind)[0], value, at)
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ResultsFault(f"{at}: {kind.__name__} was expected, and this is {json.dumps(value)[:60]}")
    return value
