"""What every peer's adapter has to do; run on the standard library's in tests/bench, on the packages in tests/interop."""

from __future__ import annotations

from pathlib import Path

from bench.peers import PEERS

PAIRS = [(b"%02d" % number, b"value %d" % number) for number in range(50)]


def check_peer(name: str, path: Path, *, sync: bool) -> None:
    """Puts, gets, deletes, batches, scans and seeks, and what is there after the store was opened again."""
    peer = PEERS[name]
    assert peer.installed and peer.version not in ("", "?")
    store = peer.open(str(path / "store"), sync)
    store.put(b"key", b"old")
    store.put(b"key", b"new")
    assert store.get(b"key") == b"new" and store.get(b"absent") is None
    store.delete(b"key")
    store.delete(b"never there")
    assert store.get(b"key") is None
    store.batch(tuple(PAIRS[::-1]))
    found = [(bytes(key), bytes(value)) for key, value in store.scan()]
    assert sorted(found) == PAIRS
    if store.seek is not None:
        assert found == PAIRS
        assert [tuple(map(bytes, pair)) for pair in store.seek(b"07", 3)] == PAIRS[7:10]
        assert [tuple(map(bytes, pair)) for pair in store.seek(b"075", 2)] == PAIRS[8:10]
        assert len(store.seek(b"48", 10)) == 2 and len(store.seek(b"99", 10)) == 0
    store.close()
    store = peer.open(str(path / "store"), sync)
    assert store.get(b"17") == b"value 17" and store.get(b"key") is None
    store.close()
