"""The recorded answers of etcd that judge the gateway, one file for each situation.

transcripts/NAME.json is what etcd 3.5.1 answered, upstream's own build; where the file says 3.4.23, the two answered alike but
for what `as_3_5_1` does to it. Those are facts about the two versions' gateway libraries (1.6.4 and 1.16.0), not about a
situation:

1. The body of an error has the fields error, code, message in this order; 3.4.23 had error, message, code.
2. An error that came from gRPC has a Content-Length; 3.4.23 sent it in chunks, with a trailer.

What else differs has a recording of its own. What a file has: `before`, requests that come first; `request`; `response`, or in it
`stream`, what comes and what is done meanwhile, in this order; `after`, requests that show what it did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.gateway.placeholders import Pairs

__all__ = ["DIRECTORY", "load", "names"]

DIRECTORY = Path(__file__).parent / "transcripts"


def names() -> list[str]:
    """All situations."""
    return sorted(file.stem for file in DIRECTORY.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """One situation. Bodies are as they came (`Pairs`), everything else is a dict."""
    pairs = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"), object_pairs_hook=Pairs)
    transcript: dict[str, Any] = _opened(pairs, "")
    return as_3_5_1(transcript) if transcript["etcd"] == "3.4.23" else transcript


def _opened(value: Any, key: str) -> Any:
    """Everything but the recorded answers' JSON as dicts, for whose fields the order means nothing."""
    if isinstance(value, Pairs):
        is_answer = dict(value).keys() & {"status", "no_newline"} != set()
        opened: dict[str, Any] = {}
        for name, each in value:
            if name == "message" or (name == "body" and is_answer) or (name == "answer" and key == "before"):
                opened[name] = each
            elif name == "body":
                opened[name] = _plain(each)
            else:
                opened[name] = _opened(each, name)
        return opened
    if isinstance(value, list):
        return [_opened(each, key) for each in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {name: _plain(each) for name, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def as_3_5_1(value: Any) -> Any:
    """What 3.5.1 answers where a recording of 3.4.23 stands for it."""
    if isinstance(value, list) and not isinstance(value, Pairs):
        return [as_3_5_1(each) for each in value]
    if not isinstance(value, dict):
        return value
    answer = {name: as_3_5_1(each) for name, each in value.items()}
    if "status" in answer and isinstance(body := answer.get("body"), Pairs):
        fields = dict(body)
        if fields.keys() == {"error", "message", "code"}:
            answer["body"] = Pairs((name, fields[name]) for name in ("error", "code", "message"))
        if answer.pop("trailers", None) is not None:
            chunked = ("Trailer", "Transfer-Encoding")
            headers = {header: value for header, value in answer["headers"].items() if header not in chunked}
            answer["headers"] = headers | {"Content-Length": "<n>"}
    return answer
