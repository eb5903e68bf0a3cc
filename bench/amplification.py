"""What a million random puts cost the disk: our engines beside LevelDB, whose figures are its own.

    python -m bench.amplification --puts 1e6
    python -m bench.amplification --puts 1e6 --engine lsm,memtable=sorted --levels

    write amplification   bytes written to files for each byte of keys and values that was put: logs, tables, pages, merges
    space amplification   bytes of the store's files for each byte that is live
    read amplification    blocks, pages or records read for each get, just after the store was opened again

Keys are drawn: of a million puts on as many keys, some 632,000 keys are put once or more. Values are random bytes, which no
compression makes smaller. The puts aren't synced. Each subject has a fresh process. It waits until the engine has done what
it had put off, and flushes; the memtable, at most, is then in the log alone.

What LevelDB says of itself is its property "leveldb.stats": for each level, the bytes that flushes and compactions into it
have written. It has no figure for its log, so that comes from the system, which counts what a process writes
(/proc/self/io): LevelDB writes its files by calls, and not through mappings. Our engines count for themselves.

Left out: LevelDB's reads, which it makes through mappings and doesn't count.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import engines
from bench.resident import resident_bytes
from bench.results import Subject
from bench.subjects import ENGINES, SubjectFault, engine_subject
from bench.workload import key_of
from engines import StoreError

__all__ = ["Amplified", "amplification", "levels_bytes_written", "main", "table"]

LEVELDB = "plyvel"
QUIET_S = 3.0  # no file has changed for so long: what was put off is done
POLL_S = 0.1
GETS = 20_000
PUTS_MOST = 10**8
KEY_BYTES = len(key_of(0))


@dataclass(frozen=True, kw_only=True)
class Amplified:
    """What the puts of one subject took. None: it doesn't tell. levels: the text of "leveldb.stats", "" if it has none.

    own_bytes: what the engine itself has counted as written; of LevelDB, without its log.
    """

    subject: str
    puts: int
    seconds: float
    user_bytes: int
    own_bytes: int
    written_bytes: int
    live_bytes: int
    disk_bytes: int
    resident_bytes: int | None
    reads_per_get: float | None
    levels: str = ""


def amplification(subject: Subject, puts: int, value_bytes: int = 100, seed: int = 0) -> Amplified:
    """Runs the puts in a fresh process. Raises SubjectFault, with the last line of what a failed process has said."""
    job = {"subject": asdict(subject), "puts": puts, "value_bytes": value_bytes, "seed": seed, "quiet_s": QUIET_S}
    ended = subprocess.run(
        [sys.executable, "-m", "bench.amplification", "--job", json.dumps(job)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SubjectFault(f"{subject.name}: {last}")
    return Amplified(**json.loads(ended.stdout))


def levels_bytes_written(text: str) -> int:
    """The sum of "Write(MB)" over the levels of a text of "leveldb.stats"."""
    rows = [line.split() for line in text.splitlines()]
    return sum(int(row[5]) << 20 for row in rows if len(row) == 6 and all(word.isdigit() for word in row))


def table(found: Sequence[Amplified]) -> list[str]:
    """A line for each subject."""
    heads = ["write amp.", "of its own", "space amp.", "reads/get", "memory MB", "thousand/s"]
    width = max(8, *(len(each.subject) for each in found))
    lines = [" " * width + "".join(f"{head:>12}" for head in heads)]
    for each in found:
        cells = [
            f"{each.written_bytes / each.user_bytes:.2f}",
            f"{each.own_bytes / each.user_bytes:.2f}",
            f"{each.disk_bytes / each.live_bytes:.2f}",
            "-" if each.reads_per_get is None else f"{each.reads_per_get:.2f}",
            "-" if each.resident_bytes is None else f"{each.resident_bytes / 1e6:.0f}",
            f"{each.puts / each.seconds / 1e3:.0f}",
        ]
        lines.append(f"{each.subject:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    return lines


# ---- the process that puts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Store:
    """What differs between our engines and LevelDB. own_bytes: what it has counted as written until now."""

    put: Callable[[bytes, bytes], Any]
    get: Callable[[bytes], bytes | None]
    flush: Callable[[], None]
    own_bytes: Callable[[], int]
    reads: Callable[[], int] | None
    levels: Callable[[], str]
    close: Callable[[], None]


def _opened(subject: Subject, path: str) -> _Store:
    return _leveldb(path) if subject.kind == "peer" else _engine(subject, path)


def _engine(subject: Subject, path: str) -> _Store:
    store: Any = engines.open(path, subject.engine, **({"sync": False} | subject.options))
    told = getattr(store, "leveldb_property", None)
    return _Store(
        put=store.put, get=store.get, flush=store.flush, own_bytes=lambda: store.stats().bytes_written,
        reads=lambda: store.stats().reads, levels=lambda: (told("leveldb.stats") or "") if told else "",
        close=store.close,
    )  # fmt: skip


def _leveldb(path: str) -> _Store:
    store = importlib.import_module(LEVELDB).DB(path, create_if_missing=True)

    def levels() -> str:
        text: bytes = store.get_property(b"leveldb.stats")
        return text.decode()

    return _Store(
        put=store.put, get=store.get, flush=lambda: None, own_bytes=lambda: levels_bytes_written(levels()),
        reads=None, levels=levels, close=store.close,
    )  # fmt: skip


def _job(subject: Subject, puts: int, value_bytes: int, seed: int, quiet_s: float) -> Amplified:
    rng = random.Random(seed)
    numbers = [rng.randrange(puts) for _ in range(puts)]
    noise = rng.randbytes(1 << 20)
    values = [noise[at : at + value_bytes] for at in rng.choices(range(len(noise) - value_bytes), k=10_000)]
    before_bytes, before_resident = _written_by_calls(), resident_bytes()
    with tempfile.TemporaryDirectory(prefix="metcd-amplification-") as directory:
        path = f"{directory}/store"
        store = _opened(subject, path)
        began = time.perf_counter()
        for at, number in enumerate(numbers):
            store.put(key_of(number), values[at % 10_000])
        store.flush()
        _wait_until_quiet(lambda: (store.own_bytes(), _written_by_calls(), _disk_bytes(path)), quiet_s)
        seconds = time.perf_counter() - began - quiet_s
        resident = resident_bytes()
        own, levels = store.own_bytes(), store.levels()
        by_calls = _written_by_calls() - before_bytes
        disk_bytes = _disk_bytes(path)
        store.close()
        reads = _reads_per_get(subject, path, numbers[:GETS])
    pair = KEY_BYTES + value_bytes
    return Amplified(
        subject=subject.name, puts=puts, seconds=seconds, user_bytes=puts * pair, own_bytes=own,
        written_bytes=by_calls if subject.kind == "peer" else own, live_bytes=len(set(numbers)) * pair,
        disk_bytes=disk_bytes,
        resident_bytes=None if resident is None or before_resident is None else resident - before_resident,
        reads_per_get=reads, levels=levels,
    )  # fmt: skip


def _wait_until_quiet(look: Callable[[], object], quiet_s: float) -> None:
    """Returns when what `look` sees hasn't changed for so long."""
    seen, since = look(), time.perf_counter()
    while time.perf_counter() - since < quiet_s:
        time.sleep(POLL_S)
        if (now := look()) != seen:
            seen, since = now, time.perf_counter()


def _reads_per_get(subject: Subject, path: str, numbers: Sequence[int]) -> float | None:
    store = _opened(subject, path)
    try:
        if store.reads is None:
            return None
        before = store.reads()
        for number in numbers:
            assert store.get(key_of(number)) is not None, "it was put"
        return (store.reads() - before) / len(numbers)
    finally:
        store.close()


def _written_by_calls() -> int:
    """Bytes that this process has handed to write and pwrite; 0 where the system doesn't tell."""
    try:
        with open("/proc/self/io") as lines:
            return sum(int(line.split()[1]) for line in lines if line.startswith("wchar:"))
    except OSError:
        return 0


def _disk_bytes(path: str) -> int:
    """What all files of a store have: of one that is a file, it. A worker process's table grows while it is written."""
    files = [path] if os.path.isfile(path) else [f"{at}/{name}" for at, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a compaction has just removed it
            total += os.stat(file).st_blocks * 512
    return total


# ---- the command ---------------------------------------------------------------------------------------------------------


def _puts(text: str) -> int:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not (1 <= found <= PUTS_MOST and found == int(found)):
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {PUTS_MOST:,}, and this is {text!r}")
    return int(found)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the table; or is the process that puts."""
    parser = argparse.ArgumentParser("python -m bench.amplification", description="What random puts cost the disk.")
    parser.add_argument(
        "--puts", type=_puts, default=1_000_000, metavar="N", help="how many, of as many keys: 1e6, 20000, ... (1e6)"
    )
    parser.add_argument("--value", type=int, default=100, metavar="BYTES", help="of each value (100)")
    parser.add_argument("--seed", type=int, default=0, help="of keys and values (0)")
    parser.add_argument(
        "--engine",
        action="append",
        metavar="ENGINE[,NAME=VALUE...]",
        help="which engine; may be repeated (lsm, btree and bitcask)",
    )
    parser.add_argument("--levels", action="store_true", help='LevelDB\'s table "leveldb.stats" of those that have one')
    parser.add_argument("--job", help=argparse.SUPPRESS)
    told = parser.parse_args(words)
    if told.job:
        job = json.loads(told.job)
        print(json.dumps(asdict(_job(Subject(**job.pop("subject")), **job))))
        return 0
    try:
        subjects = [engine_subject(engine) for engine in told.engine or ENGINES]
        if importlib.util.find_spec(LEVELDB) is None:
            print("LevelDB isn't here to stand beside: pip install 'metcd[peers]'", file=sys.stderr)
        else:
            subjects.append(Subject(name="LevelDB", kind="peer"))
        found = [amplification(subject, told.puts, told.value, told.seed) for subject in subjects]
    except (SubjectFault, StoreError, OSError) as error:
        print(f"amplification: {error}", file=sys.stderr)
        return 2
    print(f"{told.puts:,} random puts, values of {told.value:,} bytes, not synced:")
    print(*table(found), sep="\n")
    for each in found if told.levels else ():
        if each.levels:
            print("", each.subject, each.levels.rstrip("\n"), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
