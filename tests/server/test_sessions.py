"""Sessions: a request that is sent again is applied once, on every engine, through batches, snapshots and power cuts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines
from engines.coding import DecodeError
from engines.errors import CorruptionError
from engines.simdisk import Policy
from engines.simenv import SimEnv
from raft.raftpb import ConfState, Entry
from server.errors import NumberPassed, SessionExpired
from server.forwards import fault
from server.request import parse_head
from server.routes import find_call, perform
from server.sessions import MARK, OPENS, Serial, Sessions
from server.statemachine import StateMachine, decode_proposal, encode_proposal
from tests.chapters.clients import Front, Stage
from tests.chapters.kit import History
from tests.chapters.linearizable import UNKNOWN, Done, violation
from tests.conformance.engine_table import TINY
from tests.conftest import SEED
from tests.server.fake_node import FakeNode, Wire, serving
from tests.server.http_client import batch, sentence

THREE = ConfState(voters=(1, 2, 3))
ENGINES = ("memory", "lsm", "btree", "bitcask")
MOST = 4


def entry(index, *operations):
    return Entry(1, index, data=encode_proposal(7, index, operations))


def store_on(engine, env):
    return engines.open("/disk/store", engine, env=env, sync=False, **TINY[engine])


def machine_on(store, most=MOST):
    return StateMachine(store, sessions=Sessions(most))


class Model:
    """What sessions are by their rules in words: a dict of the pairs, and for each session its last request."""

    def __init__(self):
        self.pairs, self.sessions = {}, {}  # session → [number, its index, last use]

    def apply(self, index, operations):
        if operations[:1] == [OPENS]:
            self.sessions[index] = [0, 0, index]
            if len(self.sessions) > MOST:
                del self.sessions[min(self.sessions, key=lambda each: self.sessions[each][2])]
            return index
        if operations and isinstance(operations[0], Serial):
            (session, number), operations = operations[0], operations[1:]
            if session not in self.sessions:
                return SessionExpired
            last = self.sessions[session]
            if number < last[0]:
                return NumberPassed
            last[2] = index
            if number == last[0]:
                return last[1]
            last[:2] = number, index
        for key, value in operations:
            if value is None:
                self.pairs.pop(key, None)
            else:
                self.pairs[key] = value
        return index


def history(rng, length):
    """Entries of clients that send twice, late and out of order, in more sessions than there is room for."""
    entries, opened, sent = [], [], []
    for index in range(1, length + 1):
        choice = rng.random()
        write = [(rng.choice((b"x", b"y", b"z")), rng.choice((None, b"%d" % index)))]
        if choice < 0.1 or not opened:
            operations = [OPENS]
            opened.append([index, 0])
        elif choice < 0.3:
            operations = write
        elif choice < 0.55 and sent:
            operations = rng.choice(sent[-6:])  # again, perhaps after later ones
        else:
            session = rng.choice(opened[-MOST - 2 :])
            session[1] += rng.choice((1, 1, 1, 2))
            operations = [Serial(*session), *write]
            sent.append(operations)
        entries.append((index, operations))
    return entries


def batches(rng, entries):
    while entries:
        size = rng.randint(1, 7)
        yield entries[:size]
        entries = entries[size:]


@pytest.mark.parametrize("engine", ENGINES)
def test_any_history_in_any_batches_is_as_the_rules_say(engine):
    """Duplicates, reorderings and evictions; restarts and snapshots to another engine in between."""
    rng = random.Random(f"sessions {engine} {SEED}")
    for _ in range(6):
        env, model = SimEnv(), Model()
        store = store_on(engine, env)
        machine = machine_on(store)
        for some in batches(rng, history(rng, 120)):
            found = machine.apply([entry(index, *operations) for index, operations in some], THREE)
            told = [each.outcome if isinstance(each.outcome, int) else type(each.outcome) for each in found]
            assert told == [model.apply(index, list(operations)) for index, operations in some], f"seed {SEED}"
            assert dict(machine.scan()) == model.pairs, f"seed {SEED}"
            kept = dict(store.scan(prefix=b"ms"))
            assert len(kept) == len(model.sessions) == len(machine.sessions) <= MOST
            choice = rng.random()
            if choice < 0.1:
                machine = machine_on(store)
            elif choice < 0.2:
                other = store_on(rng.choice(ENGINES), SimEnv())
                taken = machine.snapshot()
                machine = machine_on(other)
                with taken.view:
                    machine.recover_from_snapshot(taken.metadata, taken.pairs())
                assert dict(other.scan()) == dict(store.scan())
                store = other


def test_how_entries_are_divided_into_batches_changes_no_byte():
    rng = random.Random(f"batches {SEED}")
    entries = [entry(index, *operations) for index, operations in history(rng, 200)]
    contents = []
    for _ in range(4):
        with store_on("memory", SimEnv()) as store:
            machine = machine_on(store)
            for some in batches(rng, entries):
                machine.apply(some, THREE)
            contents.append(dict(store.scan()))
    assert all(content == contents[0] for content in contents), f"seed {SEED}"


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_power_cut_takes_no_request_apart_from_its_number(engine):
    """The engine is never synced: after a cut it is at some earlier entry, and the log applies the rest again."""
    rng = random.Random(f"power {engine} {SEED}")
    for _ in range(4):
        entries = [entry(index, *operations) for index, operations in history(rng, 150)]
        with store_on("memory", SimEnv()) as calm:
            for some in batches(rng, entries):
                machine_on(calm).apply(some, THREE)
            wanted = dict(calm.scan())
        env = SimEnv()
        store = store_on(engine, env)
        machine = machine_on(store)
        while machine.applied_index < len(entries):
            at = machine.applied_index
            machine.apply(entries[at : at + rng.randint(1, 9)], THREE)
            if rng.random() < 0.2:
                machine.flush()
            if rng.random() < 0.15:
                env = env.crash(rng.choice(list(Policy)), rng)
                store = store_on(engine, env)
                machine = machine_on(store)
        assert dict(store.scan()) == wanted, f"seed {SEED}"


def test_the_same_request_twice_in_one_batch_is_applied_once():
    with store_on("memory", SimEnv()) as store:
        machine = machine_on(store)
        machine.apply([entry(1, OPENS)], THREE)
        again = [Serial(1, 1), (b"k", b"once")]
        applied = machine.apply([entry(2, *again), entry(3, (b"k", b"another's")), entry(4, *again)])
        assert [each.outcome for each in applied] == [2, 3, 2]
        assert machine.lookup(b"k") == b"another's"


def test_an_expired_session_applies_nothing_and_says_that_it_knows_nothing():
    with store_on("memory", SimEnv()) as store:
        machine = machine_on(store, most=2)
        machine.apply([entry(1, OPENS), entry(2, OPENS), entry(3, Serial(1, 1), (b"k", b"v")), entry(4, OPENS)], THREE)
        applied = machine.apply([entry(5, Serial(2, 1), (b"k", b"expired")), entry(6, Serial(1, 1), (b"k", b"again"))])
        assert isinstance(applied[0].outcome, SessionExpired)
        assert "session 2 has expired" in str(applied[0].outcome)
        assert applied[1].outcome == 3, "the one that was used last has stayed"
        assert machine.lookup(b"k") == b"v"


def test_a_number_from_before_the_last_one_is_told_that_it_is_passed():
    with store_on("memory", SimEnv()) as store:
        machine = machine_on(store)
        applied = machine.apply([entry(1, OPENS), entry(2, Serial(1, 7), (b"k", b"7")), entry(3, Serial(1, 6))], THREE)
        assert isinstance(applied[2].outcome, NumberPassed)
        assert "request 1/6 comes after 1/7" in str(applied[2].outcome)


# ---- bytes ------------------------------------------------------------------------------------------------------------


def test_golden_bytes():
    """The byte tables of server/statemachine.py and server/sessions.py."""
    assert encode_proposal(1, 2, [Serial(3, 4), (b"a", b"x")])[16:].hex(" ") == (
        "02 00 00 00 02 03 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00 01 01 00 00 00 01 00 00 00 61 78"
    )
    with store_on("memory", SimEnv()) as store:
        machine = machine_on(store)
        machine.apply([entry(1, OPENS), entry(2, Serial(1, 5)), entry(3, Serial(1, 5))], THREE)
        assert [(key.hex(" "), value.hex(" ")) for key, value in store.scan(prefix=b"ms")] == [
            (
                "6d 73 00 00 00 00 00 00 00 01",
                "05 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00",
            )
        ]


NUMBERS = st.integers(1, 2**64 - 1)


@given(NUMBERS, NUMBERS, st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.none() | st.binary(max_size=9))))
def test_a_serial_decodes_to_what_was_encoded(session, number, operations):
    proposed = [Serial(session, number), *operations]
    decoded = decode_proposal(encode_proposal(1, 2, proposed))
    assert decoded == (1, 2, proposed)
    assert isinstance(decoded.operations[0], Serial)


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ([OPENS, (b"a", b"b")], "does nothing else"),
        ([MARK, (b"a", b"b")], "does nothing else"),
        ([Serial(0, 2)], "counted from 1"),
        ([Serial(1, 0)], "counted from 1"),
        ([(b"a", b"b"), Serial(1, 1)], "2 only in front"),
        ([Serial(1, 1), Serial(1, 1)], "2 only in front"),
    ],
)
def test_a_serial_that_nobody_means_never_gets_into_a_log(operations, why):
    data = encode_proposal(1, 2, operations)
    with pytest.raises(DecodeError, match=why):
        decode_proposal(data)
    assert why in fault(Entry(0, 0, data=data))


def test_a_serial_that_is_cut_is_refused():
    whole = encode_proposal(1, 2, [Serial(1, 1)])
    assert fault(Entry(0, 0, data=whole)) == ""
    for size in range(len(whole)):
        assert fault(Entry(0, 0, data=whole[:size]))


@pytest.mark.parametrize("pair", [(b"ms", b"v" * 24), (b"ms" + bytes(8), b"short")])
def test_a_table_that_is_damaged_is_found_when_the_store_is_opened(pair):
    with store_on("memory", SimEnv()) as store:
        machine_on(store).apply([entry(1)], THREE)
        store.put(*pair)
        with pytest.raises(CorruptionError, match="not a session's"):
            machine_on(store)


# ---- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def wire(node):
    with serving(node) as front, Wire(front.address) as wire:
        yield wire


def test_a_request_says_its_session_and_number(node, wire):
    assert wire.ask("POST", "/_/sessions")[2] == b'{"session":1}\n'
    for method, target, body in [("PUT", "/k", b"v"), ("PUT", "/k?wait=false", b"v"), ("DELETE", "/k", None)]:
        assert wire.ask(method, target, body, "X-Metcd-Request: 17/3")[0] == 204
    assert (
        wire.ask("POST", "/_/batch", batch({"op": "put", "key": "aw==", "value": "dg=="}), "x-metcd-request: 17/4")[0]
        == 200
    )
    assert [each[0] for each in node.proposed] == [*[Serial(17, 3)] * 3, Serial(17, 4)]
    assert wire.ask("PUT", "/k", b"v")[0] == 204
    assert node.proposed[-1] == [(b"k", b"v")]


@pytest.mark.parametrize(
    "text", ["", "17", "17/", "/1", "0/1", "1/0", "17/1/1", "-1/1", "1/ 1", "0x1/1", "1" * 19 + "/1"]
)
def test_a_wrong_header_is_refused_with_a_sentence(node, wire, text):
    refused = wire.ask("PUT", "/k", b"v", f"X-Metcd-Request: {text}")
    assert (refused[0], node.applied) == (400, 0)
    assert "as in 17/1" in sentence(refused)


def test_the_header_belongs_to_writes_and_comes_once(node, wire):
    for method, target in [("GET", "/k"), ("GET", "/_/scan"), ("POST", "/_/sessions")]:
        refused = wire.ask(method, target, None, "X-Metcd-Request: 1/1")
        assert (refused[0], "what writes keys" in sentence(refused)) == (400, True)
    refused = wire.ask("PUT", "/k", b"v", "X-Metcd-Request: 1/1", "X-Metcd-Request: 1/1")
    assert (refused[0], node.applied) == (400, 0)


@pytest.mark.parametrize(("error", "status"), [(NumberPassed("late"), 409), (SessionExpired("gone"), 410)])
def test_what_came_too_late_has_a_status_of_its_own(node, wire, error, status):
    node.fails = error
    answer = wire.ask("PUT", "/k", b"v", "X-Metcd-Request: 1/1")
    assert (answer[0], answer[1]["x-metcd-error"], sentence(answer)) == (status, type(error).__name__, str(error))
    assert "retry-after" not in answer[1]


# ---- a cluster --------------------------------------------------------------------------------------------------------


class Retrying(Stage):
    """Clients that send a write again, to any node, until it is answered; nothing is unknown at the end."""

    def __init__(self, *args, **options):
        self.sessions, self.unknown, self.indexes = {}, 0, []
        super().__init__(*args, **options)

    def ask(self, method, target, body=b"", field=""):
        nodes = self.cluster.nodes
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{field}\r\n"
        front = Front(nodes[self.rng.choice(sorted(nodes))])
        answer = perform(front, find_call(parse_head(head.encode())), body)
        assert answer.status != 500
        self.unknown += answer.status == 504
        return answer

    def insist(self, *request):
        while (answer := self.ask(*request)).status not in (200, 204, 409, 410):
            self.now_running.pause()
        return answer

    def operate(self, client, number):
        if client not in self.sessions:
            self.sessions[client] = [int(self.insist("POST", "/_/sessions").body.split(b":")[1].rstrip(b"}\n")), 0]
        key, called = self.rng.choice(("x", "y")), self.now
        if self.rng.random() < 0.4:
            answer = self.ask("GET", f"/{key}")
            if answer.status in (200, 404):
                value = bytes(answer.body) if answer.status == 200 else None
                self.done.append(Done(client, "get", key.encode(), value, called, self.now))
            return
        session = self.sessions[client]
        session[1] += 1
        value = b"%d.%d" % (client, number)
        answer = self.insist("PUT", f"/{key}", value, "X-Metcd-Request: {}/{}\r\n".format(*session))
        assert answer.status == 204, answer
        self.indexes.append(int(answer.headers.split()[-1]))
        self.done.append(Done(client, "put", key.encode(), value, called, self.now))


def test_writes_that_are_sent_until_they_are_answered_are_linearizable():
    """Leaders are killed and cut off; no write stays unknown, and none is seen twice."""
    rng, retried = random.Random(f"retries {SEED}"), 0
    for _ in range(12):
        seed = rng.getrandbits(32)
        stage = Retrying(("lsm", "btree", "bitcask"), seed, History())
        stage.run()
        assert all(done.answered != UNKNOWN for done in stage.done)
        assert violation(stage.done) is None, f"seed {seed}"
        assert len(set(stage.indexes)) == len(stage.indexes), f"seed {seed}: two writes say that they are one entry"
        retried += stage.unknown
    assert retried > 0, "no write was ever sent again, so that this has shown nothing"
