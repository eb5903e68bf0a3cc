"""Requests of every shape that people write by hand, and what etcd 3.5.1 made of each."""

from __future__ import annotations

import pytest

from server.v3 import jsonpb, rpc
from server.v3.status import Status

TAKEN = [
    ("", rpc.RangeRequest()),
    (" \n", rpc.RangeRequest()),
    ("null", rpc.RangeRequest()),
    ("{}", rpc.RangeRequest()),
    ('{"key":"Zm9v"}', rpc.RangeRequest(key=b"foo")),
    ('{"key":"Zm9v"} nonsense', rpc.RangeRequest(key=b"foo")),
    ('{"key":"Zm9v"}{"key":"YmFy"}', rpc.RangeRequest(key=b"foo")),
    ('{"key":[102,111,null]}', rpc.RangeRequest(key=b"fo\0")),
    ('{"key":null}', rpc.RangeRequest()),
    ('{"KEY":"Zm9v"}', rpc.RangeRequest()),
    ('{"key":"Zm9v","key":"YmFy"}', rpc.RangeRequest(key=b"bar")),
    ('{"key":"Zm\\n9v"}', rpc.RangeRequest(key=b"foo")),
    ('{"key":"Zm9\\u0076"}', rpc.RangeRequest(key=b"foo")),
    ('{"key":"Zm9v","colour":{"red":[1.5,true,NULL]}}'.replace("NULL", "null"), rpc.RangeRequest(key=b"foo")),
    ('{"rangeEnd":"eg=="}', rpc.RangeRequest(range_end=b"z")),
    ('{"rangeEnd":"eg==","range_end":"Yg=="}', rpc.RangeRequest(range_end=b"z")),
    ('{"limit":7}', rpc.RangeRequest(limit=7)),
    ('{"limit":"7"}', rpc.RangeRequest(limit=7)),
    ('{"limit":" -7 "}', rpc.RangeRequest(limit=-7)),
    ('{"limit":"null"}', rpc.RangeRequest()),
    ('{"limit":-9223372036854775808}', rpc.RangeRequest(limit=-(1 << 63))),
    ('{"sort_order":"DESCEND"}', rpc.RangeRequest(sort_order=2)),
    ('{"sort_order":2,"sort_target":"MOD"}', rpc.RangeRequest(sort_order=2, sort_target=3)),
    ('{"keys_only":true,"count_only":false}', rpc.RangeRequest(keys_only=True)),
]


@pytest.mark.parametrize(("body", "message"), TAKEN)
def test_what_is_taken(body: str, message: rpc.RangeRequest) -> None:
    """The transcripts `bad-*` that etcd answers with 200, and their like."""
    assert jsonpb.parse(rpc.RangeRequest, body.encode()) == message


REFUSED = [
    ("[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
    ('"Zm9v"', "json: cannot unmarshal string into Go value of type map[string]json.RawMessage"),
    ('{"key":"Zm9v"', "unexpected EOF"),
    ('{"key":"YQ"}', "illegal base64 data at input byte 0"),
    ('{"key":"-_8="}', "illegal base64 data at input byte 0"),
    ('{"key":"?!"}', "illegal base64 data at input byte 0"),
    ('{"key":5}', "json: cannot unmarshal number into Go value of type []uint8"),
    ('{"key":[1,256]}', "json: cannot unmarshal number 256 into Go value of type uint8"),
    ('{"key":{}}', "json: cannot unmarshal object into Go value of type []uint8"),
    ('{"keys_only":1}', "json: cannot unmarshal number into Go value of type bool"),
    ('{"keys_only":"true"}', "json: cannot unmarshal string into Go value of type bool"),
    ('{"limit":true}', "json: cannot unmarshal bool into Go value of type int64"),
    ('{"limit":""}', "unexpected end of JSON input"),
    ('{"limit":" "}', "unexpected end of JSON input"),
    ('{"limit":"["}', "unexpected end of JSON input"),
    ('{"limit":"t"}', "invalid character ' ' in literal true (expecting 'r')"),
    ('{"limit":"-"}', "invalid character ' ' in numeric literal"),
    ('{"limit":"1."}', "invalid character ' ' after decimal point in numeric literal"),
    ('{"limit":1e2}', "json: cannot unmarshal number 1e2 into Go value of type int64"),
    ('{"limit":"1.5"}', "json: cannot unmarshal number 1.5 into Go value of type int64"),
    ('{"limit":1.0}', "json: cannot unmarshal number 1.0 into Go value of type int64"),
    (
        '{"limit":9223372036854775808}',
        "json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
    ),
    ('{"limit":"two"}', "invalid character 'w' in literal true (expecting 'r')"),
    ('{"limit":"1\\u0030"}', "invalid character '\\\\' after top-level value"),
    ('{"sort_order":"SIDEWAYS"}', 'unknown value "\\"SIDEWAYS\\"" for enum etcdserverpb.RangeRequest.SortOrder'),
    ('{"sort_order":1.5}', "json: cannot unmarshal number 1.5 into Go value of type protoreflect.EnumNumber"),
    ('{"limit":NaN}', "invalid character 'N' looking for beginning of value"),
    ('{"limit":01}', "invalid character '1' after object key:value pair"),
    ("nonsense", "invalid character 'o' in literal null (expecting 'u')"),
]


@pytest.mark.parametrize(("body", "sentence"), REFUSED)
def test_what_is_refused(body: str, sentence: str) -> None:
    """The transcripts `bad-*` that etcd answers with 400, and their like."""
    with pytest.raises(Status) as refused:
        jsonpb.parse(rpc.RangeRequest, body.encode())
    assert (refused.value.code, refused.value.sentence) == (3, sentence)


def test_an_enum_may_be_a_number_without_a_name() -> None:
    """A newer client may know more of them than the server."""
    assert jsonpb.parse(rpc.WatchCreateRequest, b'{"filters":["NODELETE",77]}').filters == [1, 77]


def test_of_an_operation_of_two_kinds_the_later_field_counts() -> None:
    """Transcript txn-two-kinds: by the order of the declaration, not of the text."""
    body = b'{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}'
    assert jsonpb.parse(rpc.RequestOp, body) == rpc.RequestOp(request_put=rpc.PutRequest(key=b"a"))


def test_a_member_of_a_oneof_may_be_zero() -> None:
    """`version: 0` asks for keys that don't exist; without it the comparison has no target."""
    assert jsonpb.parse(rpc.Compare, b'{"version":"0"}').version == 0
    assert jsonpb.parse(rpc.Compare, b"{}").version is None
    assert jsonpb.render(rpc.Compare(version=0)) == b'{"version":"0"}'


def test_an_answer_leaves_out_what_is_empty_and_keeps_the_order_of_fields() -> None:
    answer = rpc.RangeResponse(
        count=1, kvs=[rpc.KeyValue(value=b"bar", key=b"foo", version=1)], header=rpc.ResponseHeader()
    )
    assert jsonpb.render(answer) == b'{"header":{},"kvs":[{"key":"Zm9v","version":"1","value":"YmFy"}],"count":"1"}'


def test_enums_have_their_names_in_an_answer_and_numbers_that_have_none_are_numbers() -> None:
    assert jsonpb.render(rpc.Event(type=1)) == b'{"type":"DELETE"}'
    assert jsonpb.render(rpc.Event(type=9)) == b'{"type":9}'


def test_texts_are_escaped_as_go_escapes_them() -> None:
    """encoding/json writes what means something in HTML as \\u003c, and a backspace as \\u0008."""
    assert jsonpb.render(rpc.AuthUserGetRequest(name='<é&"\b\n\\b>')) == (
        '{"name":"\\u003cé\\u0026\\"\\u0008\\n\\\\b\\u003e"}'.encode()
    )
