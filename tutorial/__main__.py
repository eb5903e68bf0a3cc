"""`python -m tutorial` is `metcd learn`."""

import sys

from tutorial.learn.cli import main

if __name__ == "__main__":
    sys.exit(main())
