"""`python -m tests.clients`: etcd's own clients, unmodified, against three nodes. Exit code 1 if one doesn't get what it wants.

python -m tests.clients                            all of them, on lsm, btree and bitcask
python -m tests.clients etcd3gw curl               these
python -m tests.clients --engines memory           one node
python -m tests.clients --against etcd             the same against a real etcd: what they should get
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.clients.curl_lines import curl
from tests.clients.patroni_failover import patroni
from tests.clients.suites import etcd3gw, tooz
from tests.clients.systems import ENGINES, SYSTEMS, Missing, System

__all__ = ["CLIENTS", "main"]

CLIENTS: dict[str, Callable[[System, Path], str]] = {"curl": curl, "etcd3gw": etcd3gw, "tooz": tooz, "patroni": patroni}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.clients", description="etcd's own clients against three nodes."
    )
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (default: all of them)")
    parser.add_argument("--against", choices=sorted(SYSTEMS), default="metcd")
    parser.add_argument("--engines", default=",".join(ENGINES), help="one for each node (default: %(default)s)")
    parser.add_argument(
        "--directory", type=Path, help="for data and logs (default: a temporary one, kept after a failure)"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.clients) - CLIENTS.keys()
    if unknown:
        parser.error(f"there is no client {', '.join(sorted(unknown))}")
    directory = options.directory or Path(tempfile.mkdtemp(prefix="metcd-clients-"))
    failed = [name for name in options.clients or CLIENTS if not _passes(name, options, directory / name)]
    print(f"{'FAILED: ' + ', '.join(failed) if failed else 'all passed'}; logs are in {directory}")
    return 1 if failed else 0


def _passes(name: str, options: argparse.Namespace, directory: Path) -> bool:
    directory.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    try:
        with SYSTEMS[options.against](directory, tuple(options.engines.split(","))) as system:
            said = CLIENTS[name](system, directory)
    except (AssertionError, Missing) as error:
        print(f"{name}: FAILED: {error}", flush=True)
        return False
    except Exception:
        print(f"{name}: FAILED:\n{traceback.format_exc()}", flush=True)
        return False
    print(f"{name}: {said} ({time.monotonic() - begin:.0f} s in all)", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
