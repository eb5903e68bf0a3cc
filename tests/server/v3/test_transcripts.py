"""Every message that etcd 3.5.1 was recorded with goes through the codec unchanged: JSON and back, protobuf and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from server.v3 import jsonpb, rpc, wire
from server.v3.messages import Message
from server.v3.status import Status
from tests.gateway import transcripts
from tests.gateway.placeholders import Pairs

# the messages of a path: their names' common part
PATHS = {
    "kv/range": "Range",
    "kv/put": "Put",
    "kv/deleterange": "DeleteRange",
    "kv/txn": "Txn",
    "kv/compaction": "Compaction",
    "watch": "Watch",
    "lease/grant": "LeaseGrant",
    "lease/revoke": "LeaseRevoke",
    "lease/keepalive": "LeaseKeepAlive",
    "lease/timetolive": "LeaseTimeToLive",
    "lease/leases": "LeaseLeases",
    "cluster/member/list": "MemberList",
    "cluster/member/add": "MemberAdd",
    "cluster/member/promote": "MemberPromote",
    "maintenance/status": "Status",
    "maintenance/alarm": "Alarm",
    "maintenance/hash": "Hash",
    "maintenance/hashkv": "HashKV",
    "maintenance/defragment": "Defragment",
    "maintenance/snapshot": "Snapshot",
    "maintenance/transfer-leadership": "MoveLeader",
    "maintenance/downgrade": "Downgrade",
    "lock/lock": "Lock",
    "lock/unlock": "Unlock",
    "election/campaign": "Campaign",
    "election/proclaim": "Proclaim",
    "election/leader": "Leader",
    "election/observe": "Leader",
    "election/resign": "Resign",
    "auth/enable": "AuthEnable",
    "auth/disable": "AuthDisable",
    "auth/status": "AuthStatus",
    "auth/authenticate": "Authenticate",
    "auth/user/add": "AuthUserAdd",
    "auth/user/get": "AuthUserGet",
    "auth/user/list": "AuthUserList",
    "auth/user/grant": "AuthUserGrantRole",
    "auth/role/add": "AuthRoleAdd",
    "auth/role/get": "AuthRoleGet",
    "auth/role/list": "AuthRoleList",
    "auth/role/grant": "AuthRoleGrantPermission",
}


def name_of(path: str) -> str | None:
    path = re.sub("^/v3(beta)?/(kv/(?=lease))?", "", path.partition("?")[0])
    return PATHS.get(path)


def filled_in(value: Any) -> Any:
    """The value with something of its kind for each placeholder."""
    if isinstance(value, Pairs):
        return Pairs((name, filled_in(each)) for name, each in value)
    if isinstance(value, dict):
        return {name: filled_in(each) for name, each in value.items()}
    if isinstance(value, list):
        return [filled_in(each) for each in value]
    if not isinstance(value, str) or "<" not in value:
        return value
    if "base64" in value:
        return "YmFzZTY0"
    if value == "<hash>":
        return 123
    return "text" if any(word in value for word in ("url", "token", "version")) else "12345"


def text_of(value: Any) -> str:
    """JSON without blanks, members in their order."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{text_of(each)}" for name, each in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(text_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def exchanges(value: Any) -> Iterator[tuple[str, Any]]:
    """Each path that was asked in a transcript, with what was answered, however deep it is in it."""
    if isinstance(value, dict):
        request, answers = value.get("request", value.get("meanwhile", value)), []
        for name in ("response", "answer"):
            answer = value.get(name)
            if isinstance(answer, dict):
                answers += [answer.get("body"), *(event.get("message") for event in answer.get("stream", []))]
            else:
                answers.append(answer)
        if isinstance(request, dict) and "path" in request:
            yield from ((request["path"], answer) for answer in answers if isinstance(answer, Pairs))
        for each in value.values():
            yield from exchanges(each)
    elif isinstance(value, list) and not isinstance(value, Pairs):
        for each in value:
            yield from exchanges(each)


def messages() -> Iterator[tuple[str, type[Message], str]]:
    for name in transcripts.names():
        for path, answer in exchanges(transcripts.load(name)):
            members = dict(answer)
            kind = name_of(path)
            if kind is not None and "error" not in members:
                yield name, getattr(rpc, f"{kind}Response"), text_of(filled_in(members.get("result", answer)))


def test_every_recorded_answer_is_read_and_rendered_alike() -> None:
    count = 0
    for name, cls, text in messages():
        message = jsonpb.parse(cls, text.encode())
        assert jsonpb.render(message).decode() == text, name
        assert wire.decode(cls, wire.encode(message)) == message, name
        count += 1
    assert count > 400


def requests() -> Iterator[tuple[str, type[Message], str, dict[str, Any]]]:
    """Each request that is one message: name of the transcript, class, body, what it was answered."""
    for name in transcripts.names():
        transcript = transcripts.load(name)
        request, response = transcript["request"], transcript["response"]
        kind, body = name_of(request["path"]), request.get("body")
        text = request.get("body_text", "" if body is None else json.dumps(filled_in(body)))
        if (
            kind not in (None, "Watch") and request["method"] == "POST" and "<" not in text
        ):  # so many bytes of something
            answer = dict(response["body"]) if isinstance(response.get("body"), Pairs) else {}
            yield name, getattr(rpc, f"{kind}Request"), text, answer


def test_every_recorded_request_is_read_or_refused_as_etcd_does() -> None:
    taken = refused = 0
    for name, cls, text, answer in requests():
        sentence = answer.get("message", "")
        told_by_a_stream = answer.get("code") == 2 and sentence.startswith(
            "invalid character"
        )  # there it has another code
        if told_by_a_stream or (answer.get("code") == 3 and not sentence.startswith("etcdserver: ")):
            with pytest.raises(Status) as wrong:
                jsonpb.parse(cls, text.encode())
            assert (wrong.value.code, wrong.value.sentence) == (3, sentence), name
            refused += 1
        else:
            jsonpb.parse(cls, text.encode())
            taken += 1
    assert taken > 200
    assert refused > 15
