"""`metcd learn serve`: a cluster of three nodes on the learner's engines, Raft and server, until Ctrl-C.

It is `metcd cluster --engines DIR:lsm,btree,bitcask`, with the nodes' files in DIR/cluster, which the course directory's
commits leave out. The live page whose address it prints shows the learner's own code at work.

Raft and the store have to be written, for without them there is no cluster. An engine needn't be: one that has a function
which is still to be written is left out, its node runs another one, and the page says which chapter builds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from server import cli
from server.cluster import FIRST_PORT
from tutorial.learn.course import Course, Owned
from tutorial.learn.errors import LearnError
from tutorial.learn.place import Place

__all__ = ["ENGINES", "SERVES", "engines_built", "missing_told", "serve"]

ENGINES = ("lsm", "btree", "bitcask")
SERVES = 18  # the chapter at whose end a cluster runs
FOLDER = "cluster"
MISSING = "METCD_MISSING"  # what the nodes' pages say is not built: server/routes_page.py


def engines_built(place: Place) -> tuple[list[str], dict[str, Owned]]:
    """The engines on which nodes can run, and what is missing of the others: engine → its first unwritten function.

    Raises LearnError if something is missing without which no node runs, or if there is no engine.
    """
    missing: dict[str, Owned] = {}
    for chapter in place.course.upto(SERVES):
        for owned in place.gaps(chapter):
            package, _, rest = owned.path.partition("/")
            engine = rest.partition("/")[0]
            if package != "engines" or engine not in ENGINES:
                raise LearnError(_unwritten(owned))
            missing.setdefault(engine, owned)
    built = [engine for engine in ENGINES if engine not in missing]
    if not built:
        raise LearnError(_unwritten(missing[ENGINES[-1]]))
    return built, missing


def _unwritten(owned: Owned) -> str:
    return (
        f"{owned.name} of chapter {owned.chapter} is not written yet: `metcd learn start {SERVES} --catch-up` "
        "takes what is missing from the reference"
    )


def missing_told(course: Course, missing: Mapping[str, Owned]) -> list[tuple[str, int, str]]:
    """What the page says: engine, chapter, and the chapter's title."""
    titles = {chapter.number: chapter.title for chapter in course.chapters}
    return [(engine, owned.chapter, titles[owned.chapter]) for engine, owned in missing.items()]


def serve(
    directory: Path,
    port: int = FIRST_PORT,
    engines: Sequence[str] = ENGINES,
    missing: Sequence[tuple[str, int, str]] = (),
) -> int:
    """Starts it in the foreground, and returns its exit status. port: node 1's, for clients. missing: `missing_told`'s."""
    data = directory / FOLDER
    data.mkdir(exist_ok=True)
    (data / ".gitignore").write_text("*\n", "utf-8")
    if missing:
        os.environ[MISSING] = json.dumps(list(missing))
    nodes = [engine for engine, _ in zip(cycle(engines), ENGINES)]
    words = ["--engines", f"{directory.resolve()}:{','.join(nodes)}", "--data", str(data), "--port", str(port)]
    return cli.main(["cluster", *words])
