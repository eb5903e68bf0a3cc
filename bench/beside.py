"""The writer of readwhilewriting: a thread that puts at a fixed rate beside the reads that are measured."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from itertools import cycle

from bench.calls import Calls
from bench.workload import key_of

__all__ = ["PUTS_A_SECOND", "Writer"]

PUTS_A_SECOND = 20_000
BURST = 20
DIFFERENT = 20_000  # keys, drawn before the first put


class Writer:
    """Puts keys that are there, until it is stopped. Slower than PUTS_A_SECOND if the store is."""

    def __init__(self, store: Calls, keys: int, values: Sequence[bytes], seed: float) -> None:
        rng = random.Random(seed)
        self._pairs = cycle([(key_of(rng.randrange(keys)), rng.choice(values)) for _ in range(DIFFERENT)])
        self._store, self._ended = store, threading.Event()
        self._begun = threading.Event()
        self.puts = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        try:
            assert self._store.put_beside is not None, "the workload is left out for a store of one thread"
            put, pairs = self._store.put_beside(), self._pairs
            began = time.perf_counter()
            while not self._ended.is_set():
                for _ in range(BURST):
                    put(*next(pairs))
                self.puts += BURST
                self._begun.set()
                ahead_s = self.puts / PUTS_A_SECOND - (time.perf_counter() - began)
                if ahead_s > 0:
                    self._ended.wait(ahead_s)
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()

    def made(self) -> int:
        """How many puts it has made so far. Raises what a put has raised, for then there will be no more."""
        if self._failure is not None:
            raise self._failure
        return self.puts

    def stop(self) -> int:
        """Stops it, and returns how many puts it has made. Raises what a put has raised."""
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self.puts
