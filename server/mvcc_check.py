"""`metcd check` of a node's keys: whether each key's newest version and the history of changes tell the same.

Invariants that are looked at, of a store that nobody writes:

1. The newest version of a key, if it was written since revisions began, has its row in the history, of the same key,
   version, lease and value. A deleted key's, too, as long as the key has its row.
2. No version and no change is of a later revision than the current one, and the compacted revision isn't either.
3. Every change from the compacted revision on names the version that it replaced, and that one has its row, unless it was
   deleted or was replaced before the compacted revision.

One scan of the keys and one of the history, and a get for each row. Sentences stop at SENTENCES_MAX.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from engines.coding import DecodeError
from engines.kvstore import Reader
from server.mvcc import View
from server.mvcc_rows import BEFORE, HISTORY, USER, Record, Revision, history_key, read_change, read_newest

__all__ = ["SENTENCES_MAX", "check_rows"]

SENTENCES_MAX = 20


def check_rows(reader: Reader) -> list[str]:
    """What is wrong with the keys of a state machine's store, in sentences; [] is OK. O(bytes)."""
    try:
        view = View(reader)
    except DecodeError as error:
        return [str(error)]
    return list(islice(_found(reader, view), SENTENCES_MAX)) if view.begun else []


def _found(reader: Reader, view: View) -> Iterator[str]:
    revision = view.revision
    if not view.walked <= max(view.compacted, 0) <= revision:
        yield f"the current revision is {revision}, but {view.compacted} is compacted, and {view.walked} walked over"
    for key, row in reader.scan(prefix=USER):
        try:
            yield from _of_key(reader, read_newest(key[1:], row), revision)
        except DecodeError as error:
            yield str(error)
    for key, row in reader.scan(prefix=HISTORY):
        try:
            yield from _of_change(reader, key, row, view)
        except DecodeError as error:
            yield str(error)


def _of_key(reader: Reader, newest: Record, revision: int) -> Iterator[str]:
    name = f"key {newest.key[:40]!r}"
    if newest.mod > revision:
        yield f"{name} was changed at revision {newest.mod}, and the current revision is {revision}"
    if newest.mod == BEFORE.main:
        return
    at = history_key(Revision(newest.mod, newest.sub))
    row = reader.get(at)
    if row is None:
        yield f"{name} was changed at revision {newest.mod}.{newest.sub}, and the history has no such change"
    elif read_change(at, row).record != newest:
        yield f"{name} has another version than the change {newest.mod}.{newest.sub} of the history"


def _of_change(reader: Reader, key: bytes, row: bytes, view: View) -> Iterator[str]:
    change = read_change(key, row)
    name = f"the change {change.main}.{change.sub} of key {change.record.key[:40]!r}"
    if change.main > view.revision:
        yield f"{name} is of the future: the current revision is {view.revision}"
    if reader.get(USER + change.record.key) is None and change.main >= view.compacted:
        yield f"{name} is there, and the key's newest version isn't"
    prev = change.prev
    if prev in (None, BEFORE) or change.main <= view.compacted:
        return
    assert prev is not None
    if prev.main >= max(view.compacted, 0) and reader.get(history_key(prev)) is None:
        yield f"{name} has replaced the version of {prev.main}.{prev.sub}, whose row is missing"
