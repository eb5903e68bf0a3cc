"""`python -m server` is `metcd`; and so is the script of that name, which begins here.

What a command needs takes a moment to be imported. A Ctrl-C in that moment ends it like any later one: without a
traceback.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Runs the command line, and returns its exit status."""
    try:
        from server.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
