"""`python -m server` is `metcd`; and so is the script of that name, which begins here.

What a command needs takes a moment to be imported. A Ctrl-C in that moment ends it like any later one: without a
traceback.

The verbs of ELSEWHERE belong to packages that stand above this one and that a wheel doesn't carry: the words after such
a verb are handed over as they are.
"""

import importlib
import sys

__all__ = ["main"]

ELSEWHERE = {"learn": "tutorial.learn.cli"}  # verb → the module whose `main` takes the words after it


def main() -> int:
    """Runs the command line, and returns its exit status."""
    try:
        if sys.argv[1:2] and sys.argv[1] in ELSEWHERE:
            return _hand_over(sys.argv[1], sys.argv[2:])
        from server.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


def _hand_over(verb: str, words: list[str]) -> int:
    package = ELSEWHERE[verb].partition(".")[0]
    try:
        run = importlib.import_module(ELSEWHERE[verb]).main
    except ModuleNotFoundError as error:
        missing = f"the package {package} is not installed" if error.name == package else f"{error.name} is missing"
        print(f"metcd {verb}: {missing}: run it from a clone of the repository, after `make learn`", file=sys.stderr)
        return 2
    return int(run(words))


if __name__ == "__main__":
    sys.exit(main())
