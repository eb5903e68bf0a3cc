"""What `strace -f -y` printed of a run of puts, as counts and as an answer: was each put on the disk when it returned?

Before each put, and after the last one, the traced program asks for a file that isn't there (`mark`). So the trace is cut
into puts, each with the calls that it made on the store's files:

    openat(AT_FDCWD, "metcd-mark", O_RDONLY) = -1 ENOENT
    write(5</data/000003.log>, ""..., 129) = 129
    fdatasync(5</data/000003.log>) = 0
    openat(AT_FDCWD, "metcd-mark", O_RDONLY) = -1 ENOENT

1. A put is on the disk if it synced a file, and wrote nothing after that to any file which the run ever syncs. A file that
   is never synced (a log for people, shared memory) is nothing that the store relies on.
2. fsync, fdatasync, msync with MS_SYNC, and sync count as a sync; so does a write through a descriptor that was opened
   with O_SYNC or O_DSYNC, for its own file. sync_file_range doesn't: it leaves the disk's cache alone.
3. Writes into a mapping make no call. So a put without a write may have written, if a file is mapped to be written; what
   is in such a mapping is the kernel's, and survives the process.

Left out: whether what was synced is enough (a name in a directory, an order). Only a simulated disk can tell, and
`tests/crash` does it for our engines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["CALLS", "MARK", "Put", "Trace", "parse"]

MARK = "metcd-mark"
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range"}
SYNCS = {"fsync", "fdatasync", "sync", "syncfs", "msync"}
OPENS = {"open", "openat", "openat2", "creat"}
CALLS = ",".join(sorted(WRITES | SYNCS | OPENS | {"mmap"}))

_CALL = re.compile(r"^(?:\[pid +)?(?:\d+\]?\s+)?(?P<name>\w+)\((?P<words>.*)$")
_DESCRIPTOR = re.compile(r"(?P<number>\d+)<(?P<path>[^>]*)>")
_RESULT = re.compile(r"\)\s+= (?P<result>-?\w+)")
_ALWAYS_SYNCED = re.compile(r"\bO_D?SYNC\b")


@dataclass
class Put:
    """What one put did, in order: ("write" or "sync", path). A sync of everything has the path ""."""

    done: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Trace:
    """The puts of a run, and whether some file of the store is mapped to be written."""

    puts: list[Put]
    mapped: bool = False

    @property
    def writes(self) -> int:
        return sum(kind == "write" for put in self.puts for kind, _ in put.done)

    @property
    def syncs(self) -> int:
        return sum(kind == "sync" for put in self.puts for kind, _ in put.done)

    @property
    def each_on_disk(self) -> bool:
        """True if every put was on the disk when it returned; False if there was none."""
        everything = any(path == "" for put in self.puts for kind, path in put.done if kind == "sync")
        relied_on = {path for put in self.puts for kind, path in put.done if kind == "sync"}
        return bool(self.puts) and all(_on_disk(put, relied_on, everything) for put in self.puts)


def _on_disk(put: Put, relied_on: set[str], everything: bool) -> bool:
    """Rule 1, for one put."""
    waits: set[str] = set()
    synced = False
    for kind, path in put.done:
        if kind == "sync":
            synced = True
            waits = set() if path == "" else waits - {path}
        elif everything or path in relied_on:
            waits.add(path)
    return synced and not waits


def parse(lines: Iterable[str], root: str) -> Trace:
    """What the lines say about the files below `root`, between the first mark and the last. Lines of other shapes are skipped."""
    reader = _Reader(root.rstrip("/") + "/")
    for line in lines:
        if (call := _CALL.match(line)) is not None:
            reader.take(call["name"], call["words"])
    return Trace(reader.puts[:-1], reader.mapped)  # after the last mark comes none


class _Reader:
    """Goes through the calls of a trace. A call that another thread interrupts is taken when it begins."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.puts: list[Put] = []
        self.mapped = False
        self.always_synced: set[str] = set()  # descriptors' numbers
        self.mappings: list[tuple[int, int, str]] = []  # begin, end, path

    def take(self, name: str, words: str) -> None:
        result = _RESULT.search(words)
        if name in OPENS:
            self._open(words, result["result"] if result else "")
        elif result is not None and result["result"].startswith("-"):
            return
        elif name == "mmap":
            self._map(words, result["result"] if result else "")
        elif name in WRITES | SYNCS and self.puts:
            self._touch(name, words)

    def _open(self, words: str, result: str) -> None:
        if f'"{MARK}"' in words:
            self.puts.append(Put())
        elif result.isdigit():
            (self.always_synced.add if _ALWAYS_SYNCED.search(words) else self.always_synced.discard)(result)

    def _map(self, words: str, result: str) -> None:
        found = _DESCRIPTOR.search(words)
        if found is None or not self._ours(found["path"]) or "MAP_SHARED" not in words or "PROT_WRITE" not in words:
            return
        self.mapped = True
        if result.startswith("0x"):
            begin = int(result, 16)
            self.mappings.append((begin, begin + int(words.split(",")[1]), found["path"]))

    def _touch(self, name: str, words: str) -> None:
        done = self.puts[-1].done
        if name == "msync":
            if "MS_SYNC" in words and (path := self._mapped_at(words)) is not None:
                done.append(("sync", path))
            return
        if name == "sync":
            done.append(("sync", ""))
            return
        # copies have the descriptor that is written second
        descriptors = _DESCRIPTOR.findall(words)
        number, path = (descriptors[1] if name == "copy_file_range" else descriptors[0]) if descriptors else ("", "")
        if not self._ours(path):
            return
        if name in SYNCS:
            done.append(("sync", "" if name == "syncfs" else path))
            return
        done.append(("write", path))
        if number in self.always_synced or re.search(r"RWF_D?SYNC", words):
            done.append(("sync", path))

    def _mapped_at(self, words: str) -> str | None:
        address = int(words.split(",")[0], 16)
        return next((path for begin, end, path in reversed(self.mappings) if begin <= address < end), None)

    def _ours(self, path: str) -> bool:
        return path == self.root[:-1] or path.startswith(self.root)
