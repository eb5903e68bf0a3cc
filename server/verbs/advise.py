"""The verb `advise`: which engine fits a mix of operations, and where the answer flips."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from bench.advice_text import answer, question_line
from bench.advise import REMARKS, STEPS, Advice, Question, advise
from bench.results import Subject
from bench.subjects import SubjectFault, subjects_of
from bench.workload import Kind, Mix
from bench.ycsb import mix_of
from server.verbs.numbers import number, whole
from server.verbs.words import AddVerb, UsageError

__all__ = ["KEYS_MOST", "MIX", "VALUE_MOST", "add", "ask", "show"]

MIX = "get=90,put=8,scan=2"
KEYS_MOST = 10**8  # bounded by the time and the disk long before
VALUE_MOST = 1 << 20


def add(verb: AddVerb) -> None:
    """Adds the verb to the parser."""
    parser = verb("advise", run, "which engine fits a mix of operations, why, and where the answer flips")
    parser.add_argument(
        "--mix",
        type=_mix,
        default=mix_of(MIX),
        metavar="KIND=SHARE,…",
        help=f"of get, put, insert, delete and scan ({MIX})",
    )
    parser.add_argument("--keys", type=whole(1, KEYS_MOST), default=50_000, help="in the store: 50000, 1e6 (5e4)")
    parser.add_argument("--value", type=whole(0, VALUE_MOST), default=100, help="bytes of a value (100)")
    parser.add_argument(
        "--zipf", type=number(0, 10), default=0.99, help="how unequal the keys' shares are; 0: all the same (0.99)"
    )
    parser.add_argument(
        "--cache",
        type=number(0, 1),
        default=0.01,
        help="share of the data that fits in the caches, for what is counted (0.01)",
    )
    parser.add_argument("--sync", action="store_true", help="each write is on the disk when it returns")
    parser.add_argument(
        "--engine",
        action="append",
        metavar="ENGINE[,NAME=VALUE…]",
        help="may be repeated (lsm, btree and bitcask); or path/to/file.py:Class",
    )
    parser.add_argument("--counted", action="store_true", help="only what is counted: the same on every machine")
    parser.add_argument("--seed", type=int, default=0, help="of keys and values (0)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Asks, and prints the answer."""
    try:
        subjects = subjects_of(options.engine or [], [], [])
    except (SubjectFault, ValueError) as error:
        raise UsageError(str(error)) from None
    question = Question(
        mix=options.mix,
        keys=options.keys,
        value_bytes=options.value,
        theta=options.zipf,
        sync=options.sync,
        cache_share=options.cache,
        seed=options.seed,
    )
    advices = ask(subjects, question, [True] if options.counted else [True, False])
    if options.json:
        print(json.dumps({("counted" if half else "timed"): _plain(advice) for half, advice in advices.items()}))
    else:
        show(question, advices)
    return 0


def ask(subjects: Sequence[Subject], question: Question, halves: Sequence[bool]) -> dict[bool, Advice]:
    """The answers to the question, by counting (True) and by the clock (False). Raises UsageError for fewer than two subjects."""
    if len(subjects) < 2:
        raise UsageError("one engine is the best of one: give two or more, each with --engine")
    with tqdm(total=len(halves) * len(subjects) * STEPS, leave=False, disable=None, unit="run") as bar:
        return {half: advise(subjects, question, by_counting=half, step=lambda _: bar.update()) for half in halves}


def show(question: Question, advices: Mapping[bool, Advice]) -> None:
    """Prints the answers."""
    print(question_line(question))
    for half, advice in advices.items():
        print("", *answer(advice, by_counting=half), sep="\n")
    print("", *REMARKS, sep="\n")


def _plain(value: Any) -> Any:
    """An advice as JSON has it: kinds by their names."""
    if isinstance(value, Advice):
        value = asdict(value)
    if isinstance(value, dict):
        return {(key.value if isinstance(key, Kind) else key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _mix(text: str) -> Mix:
    try:
        return mix_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
