"""`python -m server` is `metcd`."""

import sys

from server.cli import main

sys.exit(main())
