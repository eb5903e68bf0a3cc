"""The real Bitcask at the other end of a pipe: `riak_bitcask.escript` answers one line for each that it is given.

Starting the Erlang machine takes a third of a second, so one of them serves a whole test module.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

__all__ = ["Riak", "file_ids", "require_erlang"]

SCRIPT = Path(__file__).with_name("riak_bitcask.escript")
PATIENCE_S = 60.0
LOOK = "halt(case code:lib_dir(bitcask) of {error, _} -> 1; _ -> 0 end)."  # exit status 0 if Erlang knows bitcask


def require_erlang() -> None:
    """Skips the test if there is no Erlang with Bitcask; the golden vectors are tested without it."""
    found = shutil.which("escript") is not None and shutil.which("erl") is not None
    if not found or subprocess.run(["erl", "-noshell", "-eval", LOOK], stdout=subprocess.DEVNULL).returncode:
        pytest.skip("the real Bitcask is missing: apt-get install --no-install-recommends erlang-bitcask")


def file_ids(directory: Path) -> set[int]:
    """Of the data files in a directory."""
    return {int(path.name.partition(".")[0]) for path in directory.glob("*.bitcask.data")}


def hexed(data: bytes) -> str:
    return data.hex() or "-"


def unhexed(text: str) -> bytes:
    return b"" if text == "-" else bytes.fromhex(text)


class Riak:
    """One Erlang process. `directory` says which one is open; every method raises AssertionError if Riak objects."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["escript", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, *words: str) -> str:
        """Sends a line, and returns the answer. A Riak that hangs is killed, which shows as an empty answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        timer = threading.Timer(PATIENCE_S, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(" ".join(words) + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline().rstrip("\n")
        finally:
            timer.cancel()

    def _expect(self, answer: str, *words: str) -> None:
        got = self.ask(*words)
        assert got == answer, f"{' '.join(words)[:200]}: {got!r}"

    def open(self, directory: Path, max_file_size: int = 300) -> None:
        self._expect("opened", "open", str(directory), str(max_file_size))

    def read(self, directory: Path) -> None:
        """Opens for reading only."""
        self._expect("opened", "read", str(directory))

    def shut(self) -> None:
        """Closes the directory."""
        self._expect("ok", "close")

    def put(self, key: bytes, value: bytes) -> None:
        self._expect("ok", "put", hexed(key), hexed(value))

    def delete(self, key: bytes) -> None:
        self._expect("ok", "delete", hexed(key))

    def get(self, key: bytes) -> bytes | None:
        answer = self.ask("get", hexed(key))
        if answer == "not_found":
            return None
        verdict, _, value = answer.partition(" ")
        assert verdict == "ok", answer
        return unhexed(value)

    def content(self) -> dict[bytes, bytes]:
        """What it holds under keys that a user of ours can have; keydir, fold and get have to agree on that."""
        verdict, *keys = self.ask("list").split(" ")
        assert verdict == "keys", verdict
        verdict, *pairs = self.ask("fold").split(" ")
        assert verdict == "pairs", verdict
        folded = {unhexed(key): unhexed(value) for key, _, value in (pair.partition("=") for pair in pairs)}
        assert sorted(folded) == sorted(map(unhexed, keys))
        assert {key: self.get(key) for key in folded} == folded
        folded.pop(b"", None)  # our marks
        return folded

    def merge(self, directory: Path, *names: str) -> None:
        """Merges the files of these names, or all. Requires: the directory is open.

        That it has done so is seen in the directory: these files are gone, and what is new is newer than all of them.
        """
        before = file_ids(directory)
        inputs = {int(name.partition(".")[0]) for name in names} or before
        self._expect("ok", "merge", str(directory), *names)
        after = file_ids(directory)
        assert inputs and not inputs & after, "the merged files are still there"
        assert before - inputs == before & after, "other files are gone"
        assert all(new > max(before) for new in after - before)

    def leave(self, directory: Path) -> None:
        """Merges all files, and ends before it deletes them. Requires: the directory is open."""
        self._expect("left", "leave", str(directory))
        self._process.wait(PATIENCE_S)

    def flood_and_kill(self, first: int, puts: int) -> int:
        """Puts k<first>, k<first + 1>, ... and is killed while it does; returns the number after the last that it said
        it had put. Requires: a directory is open."""
        assert self._process.stdout is not None
        answer = self.ask("flood", str(first))
        for _ in range(puts - 1):
            answer = self._process.stdout.readline()
        self._process.kill()
        self._process.wait(PATIENCE_S)
        for line in self._process.stdout:
            answer = line if line.startswith("put ") and line.endswith("\n") else answer
        return int(answer.removeprefix("put ")) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
