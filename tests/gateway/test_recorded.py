"""Recorded answers of etcd's gateway: a sample of them in `make test`, drawn by the seed; all in `make gateway`."""

import random

import pytest

from tests.conftest import SEED
from tests.gateway.__main__ import outcome
from tests.gateway.exceptions import EXCEPTIONS
from tests.gateway.nodes import Ours
from tests.gateway.placeholders import Pairs, Placeholders
from tests.gateway.transcripts import load, names

ENGINES = ["lsm", "btree", "bitcask", "memory"]
QUICK = ("put-", "range-", "delete-", "txn-", "compact", "watch-", "bad-")  # they wait for nothing but an election
SAMPLE = sorted(random.Random(SEED).sample([name for name in names() if name.startswith(QUICK)], 8))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_situation_is_answered_as_etcd_answered_it(name):
    engine = random.Random(f"{SEED} {name}").choice(ENGINES)
    told = outcome(name, lambda count, flags: Ours(count, flags, [engine]), quiet_s=0.1)
    assert (told is None) == (name not in EXCEPTIONS), f"{name} on {engine}: {told}"


def test_every_exception_is_about_a_situation():
    assert EXCEPTIONS.keys() <= set(names())


def test_a_recording_of_3_4_23_is_read_as_3_5_1_answers():
    """The two rules that README of the recordings has for the versions' libraries: order of fields, and no trailers."""
    response = load("put-empty-key")["response"]
    assert [name for name, _ in response["body"]] == ["error", "code", "message"]
    assert response["headers"] == {"Content-Type": "application/json", "Content-Length": "<n>"}
    assert "trailers" not in response


@pytest.mark.parametrize(
    ("recorded", "answer", "differs"),
    [
        ({"a": "<member_id>"}, {"a": "12"}, False),
        ({"a": "<member_id>"}, {"a": 12}, True),
        ({"a": "<member_id>", "b": "<member_id>"}, {"a": "12", "b": "13"}, True),
        ({"a": "<member_id>", "b": "<member_id_2>"}, {"a": "12", "b": "12"}, True),
        ({"a": "<raft_term>", "b": "<raft_term>"}, {"a": "2", "b": "3"}, False),
        ({"a": "<hash>"}, {"a": 5}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": True}, True),
        ({"a": ["x"]}, {"a": ["x", "y"]}, True),
        ({"a": "<base64 of l/ and a lease id in hex>"}, {"a": "bC8xMjM0"}, False),
        ({"a": "<base64 of l/ and a lease id in hex>"}, {"a": "bC8wMTIz"}, True),
        ({"a": "<3 bytes of x in base64>"}, {"a": "eHh4"}, False),
        ({"a": "<3 bytes of x in base64>"}, {"a": "eHh5"}, True),
        ({"members": [{"name": "a"}, {"name": "b"}]}, {"members": [{"name": "b"}, {"name": "a"}]}, False),
    ],
)
def test_what_counts_as_a_difference(recorded, answer, differs):
    assert (Placeholders({}).fault(_pairs(recorded), _pairs(answer)) is not None) == differs


def _pairs(value):
    if isinstance(value, dict):
        return Pairs((name, _pairs(each)) for name, each in value.items())
    return [_pairs(each) for each in value] if isinstance(value, list) else value
