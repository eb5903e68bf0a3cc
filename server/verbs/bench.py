"""The verb bench: engines and peers under one workload, side by side; and what is done with what it has found.

metcd bench                                              db_bench's workloads on our three engines
metcd bench fillrandom readrandom --engine lsm --peer plyvel --keys 1e6
metcd bench --engine lsm --engine lsm,memtable=sorted    two options of one engine
metcd bench --engine my/engine.py:Mine --peer all
metcd bench --mix get=90,put=8,scan=2 --zipf 0.99
metcd bench --growth 1e4,1e5,1e6                         cost against the number of keys
metcd bench recover                                      opening after a kill
metcd bench --json FILE                                  the document that everything else is made of
metcd bench compare A.json B.json                        which differences are real
metcd bench --report FILE.html                           all of it in pictures
metcd bench report A.json -o FILE.html                   the same, of a document; without -o the tables
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace

from tqdm import tqdm

from bench import compare_text, latency, report, run, terminal
from bench.advise import Question
from bench.child import workload_named
from bench.compare import unclear
from bench.db_bench import DB_BENCH
from bench.growth import Whole, measure_whole
from bench.recovery import WORKLOAD
from bench.results import Results, ResultsFault
from bench.run import Plan
from bench.subjects import SubjectFault, subjects_of
from bench.ycsb import CHOOSERS, YCSB, mix_of
from server.verbs.advise import KEYS_MOST, MIX, VALUE_MOST, ask, show
from server.verbs.numbers import number, whole
from server.verbs.words import AddVerb, UsageError

__all__ = ["add", "read_results"]

REPETITIONS_MOST = 1_000

WORKLOADS = (
    f"{', '.join(DB_BENCH)}; db_bench: all of these; ycsb-a to ycsb-f; ycsb: all of these; {WORKLOAD} "
    f"(default: db_bench and {WORKLOAD}). Or: compare A.json B.json; report A.json [-o FILE.html]"
)


def add(verb: AddVerb) -> None:
    """Adds the verbs of this module."""
    bench = verb("bench", _bench, "compare engines and peers: times, counters, memory, latencies")
    bench.add_argument("words", nargs="*", metavar="WORKLOAD", help=WORKLOADS)
    bench.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="ENGINE[,NAME=VALUE...]",
        help="measure this one: a name or path/to/file.py:Class; may be repeated (default: lsm, btree and bitcask)",
    )
    bench.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option, for each engine that has it"
    )
    bench.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="PEER",
        help='measure this one too: a name, or "all" that are installed',
    )
    bench.add_argument(
        "--keys", type=_keys, default=100_000, metavar="N", help="in the store: 20000, 1e6, ... (default: 100000)"
    )
    bench.add_argument("--value", type=_value, default=100, metavar="BYTES", help="of each value (default: 100)")
    bench.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="KIND=SHARE,...",
        help="a workload of one's own: get=90,put=8,scan=2; also insert, delete",
    )
    bench.add_argument("--chooser", choices=CHOOSERS, default="zipfian", help="which keys a mix takes")
    bench.add_argument(
        "--zipf",
        type=_theta,
        default=0.99,
        metavar="THETA",
        help="how unequal the keys' shares of it are; 0: all the same (default: 0.99)",
    )
    bench.add_argument("--repetitions", type=_repetitions, default=3, metavar="N", help="of each subject (default: 3)")
    bench.add_argument("--seed", type=int, default=0, help="of the order of keys (default: 0)")
    bench.add_argument("--sync", action="store_true", help="every write of every workload is synced")
    bench.add_argument(
        "--limit",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="stop one workload after this time (default: 300)",
    )
    bench.add_argument(
        "--directory", metavar="DIR", help="where the stores are meanwhile (default: the system's for temporary files)"
    )
    _add_results(bench)


def _add_results(bench: argparse.ArgumentParser) -> None:
    """The options that say what is made of a run."""
    bench.add_argument("--json", metavar="FILE", help="keep everything that was found, for report and compare")
    bench.add_argument(
        "--growth", type=_sizes, metavar="N,N,...", help="the same at several numbers of keys, instead of --keys"
    )
    bench.add_argument(
        "--advise", action="store_true", help="rank the engines for --mix instead, as `metcd advise` does"
    )
    bench.add_argument(
        "--no-durability",
        action="store_true",
        help="don't ask strace what a write survives (a second for each subject)",
    )
    bench.add_argument("--base", metavar="SUBJECT", help="what the tables' ratios refer to (default: the first one)")
    bench.add_argument("-o", "--report", metavar="FILE.html", help="draw everything, as one page")


def _bench(options: argparse.Namespace) -> int:
    if options.words and (instead := _INSTEAD.get(options.words[0])) is not None:
        return instead(options, options.words[1:])
    if options.advise:
        return _advise(options)
    plan = _plan(options)
    for file in (options.json, options.report):
        if file and (os.path.isdir(file) or not os.access(os.path.dirname(os.path.abspath(file)), os.W_OK)):
            raise UsageError(f"{file} can't be written: it is a directory, or in none that you may write to")
    if options.directory and not (os.path.isdir(options.directory) and os.access(options.directory, os.W_OK)):
        raise UsageError(f"{options.directory} is no directory that you may write to")
    if options.report and (missing := report.missing()):
        raise UsageError(missing)  # before a run that may take an hour
    if options.base is not None and options.base not in (names := [subject.name for subject in plan.subjects]):
        raise UsageError(f"no subject is called {options.base!r}: {', '.join(names)} are")
    if not latency.available():
        print(latency.MISSING, file=sys.stderr)
    busy = run.busy()
    if busy:
        print(busy, file=sys.stderr)
    whole = Whole(
        plan=plan,
        sizes=options.growth or (plan.keys,),
        recover=not (options.words or options.mix) or WORKLOAD in options.words,
        durability=not options.no_durability,
    )
    with tqdm(total=whole.rows, unit=" rows", disable=None) as bar:

        def progress(row: str) -> None:
            bar.set_postfix_str(row, refresh=False)
            bar.update()

        results = measure_whole(whole, shlex.join(["metcd", *sys.argv[1:]]), progress)
    results = replace(results, notes=[*filter(None, [busy]), *results.notes])
    _print(results, options.base)  # first: a full disk takes the document, not what was found
    if options.json:
        _write(options.json, results.encode())
    _report(options, results)
    return 0 if results.measured and not results.failed else 1


def _compare(options: argparse.Namespace, files: list[str]) -> int:
    """0 whatever has changed: that is for people to judge."""
    if len(files) != 2:
        raise UsageError("metcd bench compare takes two documents, A.json and B.json")
    print(*compare_text.lines(*map(read_results, files)), sep="\n")
    return 0


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None


def _report(options: argparse.Namespace, results: Results) -> None:
    if not options.report:
        return
    try:
        page = report.report(results)
    except report.ReportFault as fault:
        raise UsageError(str(fault)) from None
    _write(options.report, page)
    print(f"{options.report}: the report; open it in a browser")


def _report_of(options: argparse.Namespace, files: list[str]) -> int:
    """`metcd bench report A.json -o FILE.html`; without -o, what a run prints."""
    if len(files) != 1:
        raise UsageError("it is: metcd bench report A.json -o FILE.html")
    results = read_results(files[0])
    if not options.report:
        try:
            _print(results, options.base)
        except ValueError as fault:
            raise UsageError(str(fault)) from None
    _report(options, results)
    return 0


def _print(results: Results, base: str | None) -> None:
    """The tables; and on standard error what is unclear or missing. Raises ValueError for a base that is no subject."""
    print(*terminal.shown(results, base=base), sep="\n")
    for sentence in (*unclear(results), *results.notes):
        print(sentence, file=sys.stderr)


# `metcd bench WORD FILE...`: what is done with documents, instead of a run
_INSTEAD: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {"compare": _compare, "report": _report_of}


def _advise(options: argparse.Namespace) -> int:
    """`metcd advise`, with the words of this verb that it has as well."""
    if options.peer or options.words or options.json or len(options.mix) > 1:
        raise UsageError("--advise is about engines and one --mix, and prints its answer: `metcd advise` has a --json")
    try:
        subjects = subjects_of(options.engine, options.option, [])
        mix = mix_of(options.mix[0] if options.mix else MIX)
    except (SubjectFault, ValueError) as error:
        raise UsageError(str(error)) from None
    question = Question(
        mix=mix, keys=options.keys, value_bytes=options.value, theta=options.zipf, sync=options.sync, seed=options.seed
    )
    show(question, ask(subjects, question, [True, False]))
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    workloads = [name for word in options.words if word != WORKLOAD for name in _named(word)] + options.mix
    for name in options.mix:
        if "=" not in name:
            raise UsageError(f"a mix is written get=90,put=8,scan=2, and this is {name!r}")
    if not workloads and not options.words:
        workloads = list(DB_BENCH)
    workloads = list(dict.fromkeys(workloads))
    try:
        for name in workloads:
            workload_named(name, options.chooser, options.zipf)
        subjects = subjects_of(options.engine, options.option, options.peer)
    except (SubjectFault, ValueError) as error:
        raise UsageError(str(error)) from None
    return Plan(
        subjects=subjects, workloads=workloads, keys=options.keys, value_bytes=options.value,
        repetitions=options.repetitions, seed=options.seed, sync=options.sync, chooser=options.chooser,
        theta=options.zipf, limit_s=options.limit, directory=options.directory,
    )  # fmt: skip


def _named(word: str) -> list[str]:
    """The workloads that a word means: "db_bench" and "ycsb" are all of theirs."""
    if word == "db_bench":
        return list(DB_BENCH)
    return [f"ycsb-{letter}" for letter in YCSB] if word == "ycsb" else [word]


def read_results(path: str) -> Results:
    """The document at a path. Raises UsageError, OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        try:
            return Results.decode(file.read())
        except ResultsFault as error:
            raise UsageError(f"{path}: {error}") from None


_keys, _value, _repetitions = whole(100, KEYS_MOST), whole(0, VALUE_MOST), whole(1, REPETITIONS_MOST)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(_keys(word) for word in text.split(","))
    if list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(f"numbers of keys that ascend, such as 1e4,1e5,1e6, and this is {text!r}")
    return sizes


_theta, _seconds = number(0, 10), number(0.001, 86_400, "a number of seconds")
