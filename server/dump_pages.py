"""A dump in pages: what `metcd dump` prints of a store that is too large to be read from end to end.

    data/node1/engine is lsm: 14 files, 31.2 MB            the summary, if there is more than a page:
      9 *.ldb, 30.1 MB                                      files by their kinds
      …
    lines 1 to 1,000:
    …
    More follows: metcd dump data/node1/engine --page 2 (--limit 0 shows all)

A dump of a page's length or less is printed as it is, so that a learner's small store looks as the tutorial shows it. No
line is longer than LINE_CHARS_MAX: a record's long value is cut, and the line says how long it was.

`--keys` opens the store for reading, which a dump does not: a store that somebody has open is refused.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import engines
from engines.env import Env, StorePath, real_env
from engines.kvstore import Pair
from server import inspect
from server.mvcc_rows import USER, plain_value
from server.node_check import engine_of_node, is_node
from server.snapshot import find_snapshots, read_snapshot
from server.status_table import byte_size
from server.store_check import NotRecognised, opened_to_read

__all__ = ["LIMIT_LINES", "key_lines", "pages", "shortened", "summary"]

LIMIT_LINES = 1000  # of a page, unless --limit says otherwise
LINE_CHARS_MAX = 500
KEY_BYTES_SHOWN = 100
KINDS_SHOWN = 12


def pages(path: StorePath, lines: Iterator[str], page: int, limit: int) -> Iterator[str]:
    """The lines of one page, from 1, of `limit` lines; 0 is no limit. What is before it is read, and not kept."""
    lines = map(shortened, lines)
    if not limit:
        yield from lines
        return
    begin = (page - 1) * limit
    shown = list(islice(lines, begin, begin + limit))
    more = next(lines, None) is not None
    if page > 1 or more:
        yield from summary(path)
        yield f"lines {begin + 1:,} to {begin + len(shown):,}:" if shown else f"there is no page {page}"
    yield from shown
    if more:
        yield f"More follows: metcd dump {path} --page {page + 1} (--limit 0 shows all)"


def shortened(line: str) -> str:
    """A line of at most LINE_CHARS_MAX, and how long it was."""
    if len(line) <= LINE_CHARS_MAX:
        return line
    return f"{line[:LINE_CHARS_MAX]}… ({len(line):,} characters)"


def summary(path: StorePath) -> Iterator[str]:
    """What lies at the path, and its files by their kinds: how many, how large. O(files)."""
    top = str(path)
    what = "a file"
    folders: Iterable[tuple[str, list[str]]] = [(os.path.dirname(top), [os.path.basename(top)])]
    if os.path.isdir(top):
        what = "a directory"
        folders = ((folder, names) for folder, _, names in os.walk(top))
    with contextlib.suppress(NotRecognised):
        what = inspect.what_is(top)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for folder, names in folders:
        within = os.path.relpath(folder, top) + "/" if folder.startswith(top + "/") else ""
        for name in names:
            kind = within + (f"*{os.path.splitext(name)[1]}" if "." in name else name)
            with contextlib.suppress(FileNotFoundError):  # of a node that runs
                sizes[kind] += os.lstat(os.path.join(folder, name)).st_size
                counts[kind] += 1
    yield f"{path} is {what}: {counts.total():,} {'file' if counts.total() == 1 else 'files'}, {byte_size(sizes.total())}"
    for kind, size in sizes.most_common(KINDS_SHOWN):
        yield f"  {counts[kind]:,} {kind}, {byte_size(size)}"


def key_lines(path: StorePath, engine: str | None = None, env: Env | None = None) -> Iterator[str]:
    """The keys at the path, in their order, each with its value's size: of a store, of a snapshot, or what a node's store
    has for its users.

    Raises NotRecognised for a log or a single file of a store, and what opening a store raises.
    """
    env = env or real_env()
    path = env.absolute(path)
    if path.endswith(".snap") and not env.is_dir(path):
        return _of_a_node(read_snapshot(path, env)[1])
    if not is_node(path, env):
        engine = engine or engines.which(path, env)
        if engine is None:
            raise NotRecognised(
                f"{path} is no store and no snapshot: --keys shows the keys of one, or of a node's directory"
            )
        return (_line(*pair) for pair in _scan(path, engine, env))
    engine = engine or engine_of_node(path, env)
    if engine == "memory":
        found = next(find_snapshots(f"{path}/snap", env), None) if env.is_dir(f"{path}/snap") else None
        if found is None:
            raise NotRecognised(f"{path}: a node on the engine 'memory' keeps its keys in snapshots, and there is none")
        return _of_a_node(read_snapshot(found.path, env)[1])
    if engine is None:
        raise NotRecognised(f"{path}/engine: nobody can say which engine it is of: name it with --engine")
    return _of_a_node(_scan(f"{path}/engine", engine, env))


def _scan(path: str, engine: str, env: Env) -> Iterator[Pair]:
    with opened_to_read(path, engine, env) as store:
        yield from store.scan()


def _of_a_node(pairs: Iterator[Pair]) -> Iterator[str]:
    """The users' keys, without the prefix that tells them from the state machine's own, and as many bytes as users gave."""
    found = ((key.removeprefix(USER), plain_value(row)) for key, row in pairs if key.startswith(USER))
    return (_line(key, value) for key, value in found if value is not None)


def _line(key: bytes, value: bytes) -> str:
    more = f"… ({len(key):,} bytes)" if len(key) > KEY_BYTES_SHOWN else ""
    return f"{key[:KEY_BYTES_SHOWN]!r}{more}  {len(value):,} bytes"
