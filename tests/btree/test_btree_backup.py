"""Backups: a file as of one commit, while the writer goes on."""

from __future__ import annotations

import io
import random
from pathlib import Path

from engines.btree import BTreeStore, check_file
from engines.env import real_env


def test_a_backup_is_the_store_as_of_its_view(store: BTreeStore, tmp_path: Path, rng: random.Random) -> None:
    """write_to: while the writer goes on; synced or not."""
    for sync in (False, True):
        content = {b"%04d" % number: rng.randbytes(rng.randrange(200)) for number in range(800)}
        store.load(sorted(content.items()))
        store.put(b"last", b"one", sync=sync)
        content[b"last"] = b"one"
        with store.view() as view:
            for number in range(200):
                store.put(b"%04d" % number, b"changed")
            sink = io.BytesIO()
            assert view.write_to(sink) == len(sink.getvalue())
        copy = tmp_path / "copy.db"
        copy.write_bytes(sink.getvalue())
        assert check_file(real_env(), str(copy)) == []
        with BTreeStore(str(copy)) as backup:
            assert dict(backup.scan()) == content
            backup.put(b"and on", b"it goes")
            assert backup.check() == []
