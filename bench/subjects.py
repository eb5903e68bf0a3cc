"""What is measured: an engine of ours in some options, a learner's by its place, or a peer.

    engine_subject("lsm")                                      an engine of the registry
    engine_subject("lsm,memtable=sorted,background=false")     in other options
    engine_subject("my/engine.py:Mine")                        somebody's own
    peer_subject("plyvel-bloom")                               a peer that is installed

A subject is data, so that it can travel to a fresh process and into a document; `open_subject` makes calls of it there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import engines
from bench.calls import Calls, calls_of
from bench.peers import PEERS, installed
from bench.results import Subject
from engines import InvalidOption
from engines.options import from_text

__all__ = ["ENGINES", "SubjectFault", "engine_subject", "open_subject", "peer_subject", "subjects_of"]

ENGINES = ("lsm", "btree", "bitcask")  # unless others are asked for
OURS = ("sync", "create", "read_only", "bucket")  # the comparison's own matter


class SubjectFault(ValueError):
    """What can't be measured, with a sentence that says why."""


def engine_subject(text: str, options: Iterable[str] = ()) -> Subject:
    """An engine as it is typed, "ENGINE" or "ENGINE,NAME=VALUE,...", with further options.

    Raises SubjectFault, UnknownEngine, InvalidOption.
    """
    where, *words = text.split(",")
    path, colon, class_name = where.rpartition(":")
    if colon and path.endswith(".py"):
        where = f"{os.path.abspath(path)}:{class_name}"
    known = {name: option for name, option in engines.options(where).items() if name not in OURS}
    words = [*words, *options]
    found = from_text(where, known, words)
    name = " ".join([where.rpartition("/")[2], *sorted(f"{name}={_shown(value)}" for name, value in found.items())])
    kind = "engine" if where in engines.ENGINES else "learner"
    return Subject(name=name, kind=kind, engine=where, options=found)


def _shown(value: object) -> str:
    """As it would be typed."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def peer_subject(name: str) -> Subject:
    """A peer by its name. Raises SubjectFault if there is none of that name, or its package is missing."""
    peer = PEERS.get(name)
    if peer is None:
        raise SubjectFault(f"no peer is called {name!r}: there is {', '.join(PEERS)}, or all that are installed: all")
    if not peer.installed:
        raise SubjectFault(f"the peer {name!r} needs the package {peer.package}: pip install 'metcd[peers]'")
    return Subject(name=name, kind="peer", version=peer.version)


def subjects_of(chosen: Sequence[str], options: Sequence[str], peers: Sequence[str]) -> list[Subject]:
    """The subjects of a command line. Each option goes to every engine that has it; of peers, "all" are the installed.

    Raises SubjectFault if one is there twice, or an option is nobody's; and what the two functions above raise.
    """
    found, used = [], set()
    for text in chosen or ENGINES:
        where = text.partition(",")[0]
        share = [word for word in options if word.partition("=")[0] in engines.options(where)]
        used.update(share)
        found.append(engine_subject(text, share))
    if lost := [word for word in options if word not in used]:
        raise InvalidOption(f"none of the engines has an option as in {lost[0]!r}")
    found += [peer_subject(name) for each in peers for name in (installed() if each == "all" else [each])]
    names = [subject.name for subject in found]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise SubjectFault(f"{twice[0]} is to be measured twice")
    return found


def open_subject(subject: Subject, path: str, *, sync: bool) -> Calls:
    """Opens the subject's store at `path`, made if nothing is there; sync: every write is on the disk when it returns."""
    if subject.kind == "peer":
        return PEERS[subject.name].open(path, sync)
    keywords: dict[str, Any] = dict(subject.options)
    if "sync" in engines.options(subject.engine):
        keywords["sync"] = sync
    return calls_of(engines.open(path, subject.engine, **keywords))
