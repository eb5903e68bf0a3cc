"""What is in a directory: by names, and whatever else is there is let alone."""

from __future__ import annotations

from engines.bitcask.record import (
    encode_record,
)
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, content, open_sim, put_file


def test_foreign_files_are_let_alone() -> None:
    """Names that are nearly ours, directories that are called like a data file, Riak's other files."""
    env = SimEnv()
    foreign = [
        "README",
        "0.bitcask.data",
        "01.bitcask.data",
        "-1.bitcask.data",
        "x.bitcask.data",
        "1.bitcask.data.bak",
        "12345678901.bitcask.data",
        "1.bitcask.hintx",
        "merge.txt",
        "bitcask.create.lock",
    ]
    for name in foreign:
        put_file(env, name, b"not ours")
    env.makedirs(f"{PATH}/7.bitcask.data", "test")
    put_file(env, "3.bitcask.data", encode_record(1, b"k", b"v"))
    with open_sim(env) as store:
        for number in range(20):
            store.put(b"l", b"w" * 40 + b"%d" % number)
        store.compact()
        assert store.check() == []
    assert content(env) == {b"k": b"v", b"l": b"w" * 40 + b"19"}
    assert all(env.files()[f"{PATH}/{name}"] == b"not ours" for name in foreign)
    assert env.is_dir(f"{PATH}/7.bitcask.data")
