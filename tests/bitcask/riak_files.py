"""What the tests of the Bitcask share: stores with tiny segments, on the simulated disk or the real one, and files made
by hand as Riak might have left them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from engines.bitcask.hint import TOMBSTONE_BIT, encode_entry, encode_hint
from engines.bitcask.record import encode_record, is_tombstone
from engines.bitcask.store import BitcaskStore
from engines.simenv import Policy, SimEnv

__all__ = ["PATH", "content", "data_path", "killed", "open_sim", "put_file", "sealed_ids", "write_segment"]

PATH = "/db"


def data_path(file_id: int) -> str:
    return f"{PATH}/{file_id}.bitcask.data"


def open_sim(env: SimEnv, **options: Any) -> BitcaskStore:
    """A store that merges only when told to, with segments of a few records."""
    return BitcaskStore(PATH, env=env, **{"max_file_size": 200, "merge": "manual", **options})


def content(env: SimEnv, **options: Any) -> dict[bytes, bytes]:
    """What a fresh store finds, with everything verified."""
    with open_sim(env, **options) as store:
        assert store.check() == []
        return dict(store.scan())


def killed(env: SimEnv) -> SimEnv:
    """The disk after the process was killed: all that it wrote is there."""
    return env.crash(Policy.EVERYTHING, random.Random(0))


def sealed_ids(store: BitcaskStore) -> list[int]:
    return [segment["id"] for segment in store.describe()["segments"] if segment["state"] == "sealed"]


def put_file(env: SimEnv, name: str, data: bytes) -> None:
    """A file with these bytes, durable."""
    env.makedirs(PATH, "test")
    file = env.open(f"{PATH}/{name}", "w")
    file.append(data)
    file.sync("test")
    file.close()
    env.sync_dir(PATH, "test")


def write_segment(directory: Path, file_id: int, records: list[tuple[int, bytes, bytes]], hint: bool = True) -> None:
    """A data file of (timestamp, key, value) as Riak writes it, and its hint with an entry for each record."""
    data, entries = b"", []
    for timestamp, key, value in records:
        record = encode_record(timestamp, key, value)
        offset = len(data) | (TOMBSTONE_BIT if is_tombstone(value) else 0)
        entries.append(encode_entry(timestamp, len(record), offset, key))
        data += record
    (directory / f"{file_id}.bitcask.data").write_bytes(data)
    if hint:
        (directory / f"{file_id}.bitcask.hint").write_bytes(encode_hint(entries))
