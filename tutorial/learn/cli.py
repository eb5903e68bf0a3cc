"""`metcd learn`: the tutorial's commands. All but `init` are typed inside a course directory.

    metcd learn init DIR                      makes a course directory
    metcd learn status                        where you are
    metcd learn start N [--catch-up]          begins a chapter, anywhere in the course
    metcd learn predict N                     asks before the run, and marks after it
    metcd learn check [N] [--watch] [--seed S] [--test T] [--all]
    metcd learn trace [TEST] [--full]         what happened before a test failed; --html FILE: as a film
    metcd learn blame [N]                     which function is wrong
    metcd learn hint [N] [FUNCTION]           the next of three hints
    metcd learn show N [FUNCTION] [--apply]   the solution
    metcd learn diff [N] [--given]            what you wrote
    metcd learn break N [BUG]                 plants a bug of a real system in a copy of the reference
    metcd learn run COMMAND...                a command on your own packages
    metcd learn serve                         a cluster of three nodes on them (chapter 18)

Exit status: 0 done, or green; 1 red, or what was asked for can't be done, said in a sentence; 2 the command line is wrong,
or the course itself is.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tutorial.learn import aids, begin, judge, progress, quiz
from tutorial.learn.errors import CourseError, LearnError
from tutorial.learn.place import Place, environment

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status."""
    told = _parser().parse_args(words)
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding doesn't have is escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    run: Callable[[argparse.Namespace], int | None] = told.run
    try:
        return run(told) or 0
    except LearnError as error:
        print(f"metcd learn: {error}", file=sys.stderr)
        return 1
    except CourseError as error:
        print(f"metcd learn: the course itself is wrong: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has closed it (`metcd learn status | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"metcd learn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "metcd learn", description="Write the engines, Raft and the store yourself, function by function."
    )
    verbs = parser.add_subparsers(metavar="COMMAND")

    def alone(told: argparse.Namespace) -> int:  # `metcd learn` says which commands there are
        parser.print_help()
        return 2

    parser.set_defaults(run=alone)

    def verb(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    verb("init", lambda told: begin.init(told.directory), "make a course directory").add_argument(
        "directory", type=Path, metavar="DIR"
    )
    verb("status", lambda told: progress.status(Place.here()), "where you are, and what comes next")
    start = verb("start", _start, "begin a chapter: cut out what it asks for, and see its tests red")
    start.add_argument("number", type=int, metavar="N")
    start.add_argument("--catch-up", action="store_true", help="fill in earlier chapters from the reference")
    predict = verb("predict", _predict, "answer a chapter's questions before the run")
    predict.add_argument("number", type=int, nargs="?", metavar="N")
    predict.add_argument("--answer", action="append", default=[], help="in place of typing it; may be repeated")
    _add_judging(verb)
    _add_help(verb)
    serve = verb("serve", _serve, "run a cluster of three nodes on your own packages")
    serve.add_argument("--port", type=int, default=3379, help="node 1's, for clients (%(default)s); a node takes two")
    run = verb("run", _run, "run a command on your own packages, in plain form: `run python`, `run metcd dump PATH`")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND...")
    return parser


def _add_judging(verb: Callable[..., argparse.ArgumentParser]) -> None:
    check = verb("check", _check, "run a chapter's tests on what you wrote")
    check.add_argument("number", type=int, nargs="?", metavar="N", help="the one started last, if none is given")
    check.add_argument("--watch", action="store_true", help="again whenever a file is saved")
    check.add_argument("--seed", type=int, default=0, help="another one makes other random histories (0)")
    check.add_argument("--test", metavar="TEST", help="only this one")
    check.add_argument("--all", action="store_true", help="the earlier chapters', too")
    trace = verb("trace", _trace, "what happened before a test of the last check failed")
    trace.add_argument("test", nargs="?", metavar="TEST", help="the first with a history, if none is given")
    trace.add_argument("--full", action="store_true", help="and Python's own report")
    trace.add_argument("--html", type=Path, metavar="FILE", help="write it as a film: one page, forward and back")
    blame = verb("blame", _blame, "which of your functions makes a test red")
    blame.add_argument("number", type=int, nargs="?", metavar="N")
    blame.add_argument("--seed", type=int, default=0, help="of the check, if none was run (0)")


def _add_help(verb: Callable[..., argparse.ArgumentParser]) -> None:
    hint = verb("hint", _hint, "the next hint for a function")
    hint.add_argument("number", type=int, nargs="?", metavar="N")
    hint.add_argument("function", nargs="?", metavar="FUNCTION", help="the first unwritten one, if none is given")
    show = verb("show", _show, "the solution; it asks once")
    show.add_argument("number", type=int, metavar="N")
    show.add_argument("function", nargs="?", metavar="FUNCTION", help="all of the chapter's, if none is given")
    show.add_argument("--apply", action="store_true", help="put it into your file; what was there is committed first")
    show.add_argument("--yes", action="store_true", help="don't ask")
    diff = verb("diff", _diff, "what you wrote, as a difference")
    diff.add_argument("number", type=int, nargs="?", metavar="N")
    diff.add_argument("--given", action="store_true", help="what you changed outside of the chapters' functions")
    breaks = verb("break", _break, "plant a bug of a real system in a copy of the reference, and guess what finds it")
    breaks.add_argument("number", type=int, metavar="N")
    breaks.add_argument("bug", nargs="?", metavar="BUG", help="the next one, if none is given")
    breaks.add_argument("--guess", metavar="TEST", help="in place of typing it")
    breaks.add_argument("--anyway", action="store_true", help="though the chapter is not written")


def _here() -> Place:
    """The course directory, all of whose files Python can read."""
    place = Place.here()
    place.readable()
    return place


def _start(told: argparse.Namespace) -> None:
    begin.start(_here(), told.number, catch_up=told.catch_up)


def _predict(told: argparse.Namespace) -> None:
    quiz.predict(Place.here(), told.number, told.answer)


def _check(told: argparse.Namespace) -> int:
    if told.watch:
        judge.watch(Place.here(), told.number, seed=told.seed)
        return 0
    green = judge.check(Place.here(), told.number, seed=told.seed, test=told.test, all_of_them=told.all)
    return 0 if green else 1


def _trace(told: argparse.Namespace) -> None:
    judge.trace(Place.here(), told.test, full=told.full, html=told.html)


def _blame(told: argparse.Namespace) -> None:
    judge.blame(_here(), told.number, seed=told.seed)


def _hint(told: argparse.Namespace) -> None:
    aids.hint(_here(), told.number, told.function)


def _show(told: argparse.Namespace) -> None:
    aids.show(_here(), told.number, told.function, apply=told.apply, yes=told.yes)


def _diff(told: argparse.Namespace) -> None:
    aids.diff(_here(), told.number, given=told.given)


def _break(told: argparse.Namespace) -> None:
    quiz.break_it(_here(), told.number, told.bug, guess=told.guess, anyway=told.anyway)


def _run(told: argparse.Namespace) -> int:
    """`python` and `metcd` are this installation's; anything else is looked for as a shell would."""
    place = Place.here()
    if not told.words:
        raise LearnError("run what? For instance: metcd learn run python")
    programs = {"python": [sys.executable], "metcd": [sys.executable, "-m", "server"]}
    command = [*programs.get(told.words[0], told.words[:1]), *told.words[1:]]
    try:
        return subprocess.run(command, env=environment(place.directory), check=False).returncode
    except FileNotFoundError:
        raise LearnError(f"there is no command {command[0]}") from None


def _serve(told: argparse.Namespace) -> int:
    """Chapter 18's: three processes on the learner's packages."""
    from tutorial.learn import serve  # here: it takes the whole server with it

    place = _here()
    built, missing = serve.engines_built(place)
    said = serve.missing_told(place.course, missing)
    for engine, chapter, title in said:
        print(f"{engine} is left out: {missing[engine].name} of chapter {chapter} ({title}) is not written yet")
    return serve.serve(place.directory, told.port, built, said)


if __name__ == "__main__":
    sys.exit(main())
