"""The verb load: a data set, written through a client in batches."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from engines.kvstore import Pair
from server.client import Client
from server.errors import OutcomeUnknown
from server.verbs.clients import add_endpoints, client_of
from server.verbs.words import AddVerb, UsageError

__all__ = ["add", "unicode_names"]

LOAD_BATCH = 500  # pairs in one proposal: some 20 KB of Unicode names
LOAD_BATCH_BYTES = 256 << 10  # of keys and values; a pair that is larger travels alone
LOAD_ATTEMPTS = 10  # each as long as the client's timeout


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    add_endpoints(verb("load", _load, "write a data set: unicode, or a file of NDJSON", "source"))


def _load(options: argparse.Namespace) -> int:
    """Writes pairs in the order of their keys, in batches; what an earlier run has written is skipped."""
    with client_of(options) as client:
        if options.source == "unicode":
            pairs = unicode_names()
            last = next(client.scan(prefix=b"unicode/", reverse=True, limit=1), (b"", b""))[0]
            rest = [pair for pair in pairs if pair[0] > last]
            _write(client, rest, len(pairs), len(pairs) - len(rest))
        else:
            with sys.stdin.buffer if options.source == "-" else open(options.source, "rb") as file:
                _write(client, _ndjson(file, options.source), None, 0)
    return 0


def unicode_names() -> list[Pair]:
    """The names of all Unicode characters that this Python knows, by key: "unicode/U+2603" is "SNOWMAN"."""
    names = ((code, unicodedata.name(chr(code), "")) for code in range(sys.maxunicode + 1))
    return sorted((b"unicode/U+%04X" % code, name.encode()) for code, name in names if name)


def _ndjson(lines: Iterable[bytes], source: str) -> Iterator[Pair]:
    for number, line in enumerate(lines, 1):
        try:
            pair = json.loads(line)
            yield base64.b64decode(pair["key"], validate=True), base64.b64decode(pair["value"], validate=True)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(
                f'{source}, line {number}: a line is {{"key":"…","value":"…"}} in base64, and this is not: {error}'
            ) from None


def _write(client: Client, pairs: Iterable[Pair], total: int | None, done: int) -> None:
    """Writes pairs in batches. A batch whose outcome is unknown is sent again: puts of the same values do no harm."""
    with tqdm(total=total, initial=done, unit=" pairs", disable=None) as bar:
        for batch in _batches(pairs):
            for attempt in range(LOAD_ATTEMPTS):
                try:
                    client.batch(batch)
                    break
                except OutcomeUnknown:
                    if attempt + 1 == LOAD_ATTEMPTS:
                        raise
            bar.update(len(batch))
            done += len(batch)
    print(f"loaded {done:,} pairs")


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Pairs in batches of LOAD_BATCH, or of fewer where they would be more than LOAD_BATCH_BYTES."""
    batch: list[Pair] = []
    size = 0
    for key, value in pairs:
        size += len(key) + len(value)
        if batch and (len(batch) == LOAD_BATCH or size > LOAD_BATCH_BYTES):
            yield batch
            batch, size = [], len(key) + len(value)
        batch.append((key, value))
    if batch:
        yield batch
