"""`python -m raft.interaction FILE...`: runs data-driven scripts, and shows the first difference of each.

    python -m raft.interaction tests/raft/scripts/*.txt         compare; exit 1 if any differs
    python -m raft.interaction --no-log-lines FILE…             leave log lines out of the comparison
    python -m raft.interaction --rewrite FILE…                  write what was printed into the file
    python -m raft.interaction --print FILE…                    show the script with what was printed
    python -m raft.interaction --html FILM FILE                 write the script's run as a film, one page of HTML

Exit status: 0 all as expected, 1 a difference, 2 a file that can't be read or a command that there is not.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from raft.interaction.datadriven import ScriptError, parse_script, rewritten
from raft.interaction.film import film_of_script
from raft.interaction.script import first_difference, outputs
from raft.simulation.film.make import page_of


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m raft.interaction",
        description="Run data-driven scripts of Raft (interaction, quorum, confchange) and compare what they print.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rewrite", action="store_true", help="write what was printed into the files")
    what.add_argument("--print", action="store_true", help="show the scripts with what was printed; compare nothing")
    what.add_argument("--html", metavar="FILM", type=Path, help="write the script's run as a film; takes one file")
    parser.add_argument("--no-log-lines", action="store_true", help="leave the nodes' log lines out of the comparison")
    options = parser.parse_args(arguments)
    if options.html is not None and len(options.files) > 1:
        parser.error(f"--html takes one script, and here are {len(options.files)}")
    status = 0
    for file in options.files:
        try:
            status = max(status, _run(file, options))
        except (OSError, UnicodeDecodeError, ScriptError) as error:
            print(error if isinstance(error, ScriptError) else f"{file}: {error}", file=sys.stderr)
            status = 2
    return status


def _run(file: Path, options: argparse.Namespace) -> int:
    # Bytes decoded by hand, because opening a file as text would change its line ends.
    script = parse_script(str(file), file.read_bytes().decode("utf-8"))
    # Scripts set the timeouts that matter in them, so any seed does; a fixed one makes every run the same.
    rng = random.Random(0)
    if options.html is not None:
        data = film_of_script(script, rng, file.name, log_lines=not options.no_log_lines)
        options.html.write_text(page_of(data), "utf-8")
        print(f"{options.html}: {file}, {len(data['moments'])} moments, {data['violation'] or 'all as expected'}")
        return int(bool(data["violation"]))
    if options.rewrite or options.print:
        text = rewritten(script, list(outputs(script, rng)))
        if options.print:
            print(text, end="")
        else:
            file.write_bytes(text.encode("utf-8"))
        return 0
    difference = first_difference(script, rng, log_lines=not options.no_log_lines)
    if difference is None:
        print(f"{file}: {len(script.directives)} commands, all as expected")
        return 0
    print(difference)
    return 1


if __name__ == "__main__":
    sys.exit(main())
