"""The fast form of a simple put has the bytes and the outcomes of the plain form, and leaves everything else to it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.memory import MemoryStore
from raft.raftpb import Entry
from server.evaluation import Request
from server.limits import KEY_BYTES_MAX
from server.proposal_bytes import encode_proposal
from server.statemachine import StateMachine
from server.statemachine_fast import FastMachine, SimplePuts
from server.v3.fast_put import entry_of_body, put_in_entry, render_put
from server.v3.kv_service import PUT
from server.v3.method import Caller
from server.v3.plain_json import parse_plain, render_plain
from server.v3.plain_wire import decode_plain, encode_plain
from server.v3.rpc import InternalRaftRequest, KeyValue, PutRequest, PutResponse, RequestHeader, ResponseHeader
from server.v3.status import Status
from server.v3.unary import entry_of
from tests.conftest import SEED
from tests.server.v3 import bodies
from tests.server.v3.applying import machine_of

SIZES = [0, 1, 127, 128, 20_000, 32_768, 32_769]
NUMBERS = st.sampled_from([0, 1, 7, 2**63 - 1])


@pytest.mark.parametrize("more", [{}, {"lease": 7}, {"prev_kv": True}])
@pytest.mark.parametrize("key_size, value_size", list(itertools.product(SIZES, SIZES)))
def test_what_puts_a_key_and_a_value_takes_the_fast_way_and_nothing_else_does(key_size, value_size, more):
    put = PutRequest(b"k" * key_size, b"v" * value_size, **more)
    entry = entry_of(PUT, Caller(), put)
    is_simple = bool(key_size and value_size and not more)
    assert put_in_entry(entry) == ((put.key, put.value) if is_simple else None)
    assert entry_of_body(render_plain(put)) == (entry if is_simple and key_size <= KEY_BYTES_MAX else None)


def test_whatever_body_it_takes_the_plain_form_makes_the_same_entry_of_it() -> None:
    rng, taken = random.Random(SEED), 0
    for _ in range(2_000):
        put = PutRequest(key=rng.randbytes(rng.randrange(9)), value=rng.randbytes(rng.randrange(9)))
        body = bodies.mutated(rng, bodies.body(rng, put)) if rng.random() < 0.7 else bodies.body(rng, put)
        entry = entry_of_body(body)
        if entry is not None:
            taken += 1
            parsed = parse_plain(PutRequest, body)
            PUT.check(parsed)
            assert entry == entry_of(PUT, Caller(), parsed), body
    assert taken > 100


def test_an_entry_of_another_form_is_left_to_the_plain_one() -> None:
    """Every cut and every changed byte of an entry: what is found there, the plain decoder finds as well."""
    entry = entry_of(PUT, Caller(), PutRequest(b"key", b"value"))
    assert put_in_entry(entry) == (b"key", b"value")
    others = [entry[:at] for at in range(len(entry))]
    others += [entry[:at] + bytes((byte,)) + entry[at + 1 :] for at in range(len(entry)) for byte in range(256)]
    others += [entry + b"\x18\x01", entry_of(PUT, Caller(username="alice"), PutRequest(b"key", b"value"))]
    for other in others:
        found = put_in_entry(other)
        if found is not None:
            expected = InternalRaftRequest(header=RequestHeader(), put=PutRequest(*found))
            assert decode_plain(InternalRaftRequest, other) == expected


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.booleans())
def test_an_answer_has_the_bytes_of_the_plain_form(cluster, member, revision, term, previous):
    response = PutResponse(ResponseHeader(cluster, member, revision, term), KeyValue(b"a") if previous else None)
    rendered = render_put(response)
    simple = bool(cluster and member and revision and term and not previous)
    assert rendered == (render_plain(response) if simple else None)


@pytest.mark.parametrize("refused", [False, True])
def test_both_forms_of_the_state_machine_answer_alike(refused: bool) -> None:
    """Puts of keys that are new, there, and on a lease; and what a put in between refuses."""
    told, rows = [], []
    for kind in (StateMachine, FastMachine):
        etcd, machine = machine_of(MemoryStore(), kind)
        if isinstance(machine, FastMachine):
            machine.simple_puts = SimplePuts(put_in_entry, lambda revision, etcd=etcd: etcd.put_response(revision))
        puts = [PutRequest(b"%d" % (at % 3), b"%d" % at) for at in range(1, 20)]
        puts[7].prev_kv = True
        puts[9].lease = 5 if refused else 0
        requests = [b"", *(encode_plain(InternalRaftRequest(header=RequestHeader(), put=put)) for put in puts)]
        entries = [Entry(1, at, data=encode_proposal(9, at, [Request(data)])) for at, data in enumerate(requests, 1)]
        outcomes = [each for part in (entries[:1], entries[1:]) for each in machine.apply(part)]
        told.append([(each.origin, each.sequence, repr(each.outcome)) for each in outcomes])
        rows.append(list(machine.store.scan()))
        assert sum(isinstance(each.outcome.answer, Status) for each in outcomes) == refused
    assert told[0] == told[1]
    assert rows[0] == rows[1]
