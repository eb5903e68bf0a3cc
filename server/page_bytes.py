"""A node's files as lines, for the page: what `metcd dump` prints of one of them, a piece at a time, while the node runs.

    engine/000007.ldb     wal/0000000000000001-0000000000000012.wal     snap/0000000000000003-0000000000000c35.snap

    4181 bytes, 1 data blocks; filter.metcd.BlockedBloomMmh3
    …
    More follows: /_/bytes?file=engine/000007.ldb&at=200

What is asked for comes from the network. So:

1. A name is that of a regular file below engine, wal or snap in the node's own directory: no "..", no absolute path, no link
   on the way to it, nothing that lies beside these (the node's identity, its lock).
2. An answer has LINES_MOST lines and BYTES_MOST bytes; no line is longer than `metcd dump`'s.
3. A dump begins at the file's begin, so a piece far into it costs what lies before: READ_MOST lines of it, READ_S seconds,
   and one at a time for a node. Beyond, a sentence names the command to use instead.

A dump takes no lock and changes nothing (server/inspect.py), and files that come and go meanwhile are told as missing.
Resembles `bbolt page`, which has its own bound: the page.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import engines
from engines.env import real_env
from server import inspect
from server.dump_pages import shortened
from server.errors import Overloaded
from server.request import BadRequest

__all__ = ["FOLDERS", "file_list", "piece"]

FOLDERS: Final = ("engine", "wal", "snap")
NAME_CHARS_MAX: Final = 200
FILES_MOST: Final = 1000
LINES_MOST: Final = 200
BYTES_MOST: Final = 65_536
READ_MOST: Final = 50_000  # lines that are read before the piece
READ_S: Final = 1.0
LOOK_EVERY: Final = 64  # lines, after which the clock is looked at

_reading = threading.Lock()


def file_list(data_dir: str) -> dict[str, Any]:
    """{"files": [[name, bytes], …], "left_out": n}: what `piece` may be asked for, FILES_MOST at most. O(files)."""
    found: list[tuple[str, int]] = []
    for folder in FOLDERS:
        top = os.path.join(data_dir, folder)
        if os.path.isfile(top) and not os.path.islink(top):  # the B+tree's store is one file
            found.append((folder, os.path.getsize(top)))
        elif os.path.isdir(top) and not os.path.islink(top):
            with os.scandir(top) as entries:
                found += sorted(
                    (f"{folder}/{entry.name}", entry.stat().st_size)
                    for entry in entries
                    if entry.is_file(follow_symlinks=False)
                )
    return {"files": found[:FILES_MOST], "left_out": max(0, len(found) - FILES_MOST)}


def piece(data_dir: str, engine: str, name: str, at: int, find: str) -> str:
    """Lines of a file from line `at` on, from 0; or, with `find`, from the first one that begins with it from there on.

    engine: the node's, which shows the files of its store. Raises BadRequest: 400 for what may not be asked for, 404 for
    a file or a place that isn't there; Overloaded while another piece is read.
    """
    path = _path(data_dir, name)
    if not _reading.acquire(blocking=False):
        raise Overloaded("The node reads one file at a time for its viewers, and reads one now: ask again.")
    try:
        lines = engines.engine_class(engine).dump(path, real_env()) if _folder(name) == "engine" else inspect.dump(path)
        return _piece(map(shortened, lines), name, at, find)
    except inspect.NotRecognised:
        raise BadRequest(404, f"Nothing can be shown of {name}: it is no file with records.") from None
    except FileNotFoundError:
        raise BadRequest(404, f"The file {name} is not there any more.") from None
    finally:
        _reading.release()


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _path(data_dir: str, name: str) -> str:
    """Where the file lies. Raises BadRequest (rule 1)."""
    parts = name.split("/")
    strange = len(name) > NAME_CHARS_MAX or not name.isprintable() or "\\" in name
    if strange or not 1 <= len(parts) <= 2 or parts[0] not in FOLDERS or {"", ".", ".."} & set(parts):
        raise BadRequest(400, f"A file is named as /_/bytes lists it: {', '.join(FOLDERS)}, a slash, and its name.")
    top = os.path.realpath(data_dir)
    path = os.path.join(top, *parts)
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        raise BadRequest(404, f"There is no file {name} in the node's directory.") from None
    if not stat.S_ISREG(mode) or os.path.realpath(path) != path:
        raise BadRequest(400, f"{name} is no regular file of the node's directory.")
    return path


def _piece(lines: Iterator[str], name: str, at: int, find: str) -> str:
    until = time.monotonic() + READ_S
    shown: list[str] = []
    size = number = 0
    for number, line in enumerate(lines):
        if number > at + READ_MOST or (number % LOOK_EVERY == 0 and time.monotonic() > until):
            shown.append(
                f"It takes too long to come to the lines after {number:,} here: metcd dump shows all of {name}."
            )
            break
        if number < at or (find and not shown and not line.startswith(find)):
            continue
        size += len(line.encode()) + 1
        if len(shown) == LINES_MOST or size > BYTES_MOST:
            shown.append(f"More follows: /_/bytes?file={name}&at={number}")
            break
        shown.append(line)
    if not shown:
        what = f"line that begins with {find!r}" if find else f"line {at:,}"
        raise BadRequest(
            404, f"The dump of {name} has no {what}." if at or find else f"Nothing can be shown of {name}."
        )
    return "\n".join(shown) + "\n"
