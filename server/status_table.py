"""What nodes say of themselves, as a table for people: `metcd status`, and the live lines of `metcd cluster`.

    node  engine   role      leader  term  applied  lag  disk     links
    1     lsm      leader    1       3     1,204    0    1.4 MB   2, 3
    2     btree    follower  1       3     1,204    0    2.1 MB   1; 3 not in use
    -     http://127.0.0.1:23379 is unreachable: …

*lag* is how many entries are committed, as far as any of the nodes knows, and not applied here. *links* are the
connections on which the node sends. One that is not in use is no fault: two followers have nothing to say to each other.
What keeps a node from its work is said in a line of its own below the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["byte_size", "status_lines", "status_row", "table"]

HEADER = ("node", "engine", "role", "leader", "term", "applied", "lag", "disk", "links")

Status = Mapping[str, Any]


def status_lines(answers: Sequence[tuple[str, Status | str]]) -> list[str]:
    """A table of nodes: for each URL what the node said, or why it didn't."""
    said = [answer for _, answer in answers if not isinstance(answer, str)]
    committed = max((status.get("commit_index", 0) for status in said), default=0)
    rows: list[tuple[str, ...]] = [HEADER]
    below: list[str] = []
    for url, answer in answers:
        if isinstance(answer, str):
            rows.append(("-", f"{url} is unreachable: {answer}"))
            continue
        if answer.get("front"):  # it has no log, no engine and no peers
            rows.extend(("-", f"{url} is a front: {line}") for line in front_lines(answer["etcd"]))
            continue
        rows.append(status_row(answer, committed))
        if answer.get("kept_out"):
            below.append(f"node {answer['id']} is kept out: {answer['kept_out']}")
        if answer.get("readmission"):
            below.append(f"node {answer['id']}: {answer['readmission']}")
    return [*table(rows), *below]


def status_row(status: Status, committed: int) -> tuple[str, ...]:
    """One node's row. committed: the highest commit index that is known."""
    applied = status.get("applied_index", 0)
    return (
        str(status.get("id", "?")),
        str(status.get("engine", "?")),
        str(status.get("role", "?")).replace("_", "-"),
        str(status.get("leader") or "none"),
        f"{status.get('term', 0):,}",
        f"{applied:,}",
        f"{max(0, committed - applied):,}",
        byte_size(status.get("stats", {}).get("disk_bytes", 0)),
        links(status.get("connected", {})),
    )


def front_lines(members: Sequence[Status]) -> list[str]:
    """What a front (`server/front.py`) said of each member of its etcd."""
    lines = []
    for member in members:
        said = member.get("error") or (
            f"etcd {member['version']}, {'leader' if member['leads'] else 'follower'}, "
            f"term {member['term']:,}, revision {member['revision']:,}"
        )
        lines.append(f"{member['url']}: {said}")
    return lines


def links(connected: Mapping[str, bool]) -> str:
    """The peers that a node has a connection to, and those to which it has none."""
    used = ", ".join(peer for peer, there in connected.items() if there)
    unused = ", ".join(peer for peer, there in connected.items() if not there)
    return "; ".join(filter(None, (used, unused and f"{unused} not in use")))


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, columns aligned; a short row's last word may be as long as it likes."""
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[at]) for row in full) for at in range(len(rows[0]))]
    return ["  ".join(f"{word:<{width}}" for word, width in zip(row, widths)).rstrip() for row in rows]


def byte_size(size: int) -> str:
    """A size for people: 1.4 MB, in powers of a thousand."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
