"""Nodes that aren't there, each with a store that is: real engines under the page, without a cluster around them.

A frame's `store` is the sketch of a real store, and /_/explain, /_/describe and /_/bytes ask it. So what the page shows can
be held to what the store says, at a moment that a test chooses.

    python -m tests.page.engine_nodes         three nodes whose stores are written to, until Ctrl-C
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import engines
from engines import KVStore
from server import page_bytes
from server.request import BadRequest
from tests.page import fake_feed, frames

TINY: dict[str, dict[str, Any]] = {
    "lsm": {
        "write_buffer_bytes": 60_000,
        "max_file_bytes": 40_000,
        "level_base_bytes": 160_000,
        "block_bytes": 1024,
        "background": False,  # so that nothing changes while a test compares
    },
    "btree": {"page_size": 1024},
    "bitcask": {"max_file_size": 120_000, "merge": "inline"},
    "memory": {},
}


class Handler(fake_feed.Handler):
    """A node's routes about its engine, beside those of fake_feed."""

    nodes: EngineNodes

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        store, directory = self.nodes.stores[self.id - 1], self.nodes.directories[self.id - 1]
        if parts.path == "/_/explain":
            self.tell({"explain": store.explain(b"k" + query["key"].encode()), "sentence": ""})
        elif parts.path == "/_/describe":
            self.tell({"applied": self.nodes.applied, "describe": store.describe(), "stats": {}})
        elif parts.path == "/_/bytes":
            try:
                if "file" in query:
                    text = page_bytes.piece(
                        directory, store.name, query["file"], int(query.get("at", 0)), query.get("find", "")
                    )
                    self.answer(200, text.encode(), "text/plain; charset=utf-8")
                else:
                    self.tell(page_bytes.file_list(directory))
            except BadRequest as refused:
                self.tell({"error": refused.sentence}, refused.status)
        else:
            super().do_GET()

    def tell(self, told: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(told).encode(), "application/json")


class EngineNodes(fake_feed.FakeNodes):
    """A node for each engine of `names`, with a store in `directory`; `write` is how they come to have something."""

    handler = Handler

    def __init__(self, directory: str, names: list[str], **options: dict[str, Any]) -> None:
        self.names = names
        self.directories = [f"{directory}/{name}" for name in names]
        self.applied = 1
        self.stack = ExitStack()
        for each in self.directories:
            Path(each).mkdir()
        self.stores: list[KVStore] = [
            self.stack.enter_context(
                engines.open(f"{each}/engine", name, sync=False, **{**TINY[name], **options.get(name, {})})
            )
            for name, each in zip(names, self.directories)
        ]
        self.sketches = [store.sketch() for store in self.stores]
        super().__init__(self.frame, len(names))

    def frame(self, node_id: int, n: int, urls: list[str]) -> dict[str, Any]:
        made = frames.frame(min(node_id, 3), n, urls, {})
        store = {"applied": self.applied, "until": self.applied, "describe": self.sketches[node_id - 1], "stats": {}}
        return {**made, "id": node_id, "engine": self.names[node_id - 1], "store": store}

    def tell(self) -> None:
        """From now on the frames have what the stores say now."""
        self.sketches = [store.sketch() for store in self.stores]
        self.applied += 1

    def write(self, puts: int, keys: int, seed: int = 0) -> None:
        """The same puts and deletes in each store, of `keys` keys; then `tell`."""
        rng = random.Random(seed)
        for _ in range(puts):
            key = b"kuser/%05d" % rng.randrange(keys)
            value = None if rng.random() < 0.06 else rng.randbytes(rng.choice([20, 90, 90, 400, 3000]))
            for store in self.stores:
                store.delete(key) if value is None else store.put(key, value)
        self.tell()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.stack.close()


@contextmanager
def small_stores(directory: str) -> Iterator[EngineNodes]:
    """All four engines, after a burst of writes: several levels, several segments, free pages, a reader."""
    with EngineNodes(directory, ["lsm", "btree", "bitcask", "memory"]) as nodes:
        nodes.write(1500, 700)
        yield nodes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, small_stores(place) as running:
        print(f"{running.url}/_/page", flush=True)
        with running.stores[1].snapshot():
            for turn in range(100_000):
                running.write(20, 700, turn)
                threading.Event().wait(0.5)
