"""Log lines for programs: each record is one JSON object on one line, whatever is in it.

    {"time":"2026-11-28T09:20:01.123Z","level":"warning","node":1,"logger":"metcd.http","message":"…","times":17}

`time` is UTC. `node` is the id of the process's node, null in a process that has none. What a caller gave as
`extra={"times": 17}` follows as fields of its own; a traceback is the field `exception`, its lines in one string.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

__all__ = ["JsonLines"]

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """Formats records as JSON."""

    def __init__(self, node: int | None) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """One line without a line feed. What JSON has no form for is written as Python shows it."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "node": self._node, "logger": record.name}
        line["message"] = record.getMessage()
        line |= {name: value for name, value in vars(record).items() if name not in _KNOWN and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=repr)
