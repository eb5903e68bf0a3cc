"""Every version of every key, against a model in plain Python: at each revision, after compaction, on all engines."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import engines
from engines.coding import DecodeError
from engines.errors import CorruptionError
from engines.kvstore import WriteBatch
from engines.memory import MemoryStore
from engines.simenv import Policy, SimEnv
from server.evaluation import Evaluated, Request
from server.mvcc import Compacted, FutureRevision, Revision, View, Writes
from server.mvcc_compaction import EVERY, OWED_MAX, PACE, STEP_ROWS_MAX, backlog, due, replaced
from server.mvcc_compaction_fast import fast_replaced
from server.mvcc_fast import FastWrites
from server.mvcc_rows import HISTORY, USER, State, read_change
from server.statemachine import StateMachine
from tests.conformance.engine_table import TINY
from tests.server.mvcc_model import Model, Refused, Store, machine_on, request

ENGINES = ("memory", "lsm", "btree", "bitcask")
KEYS = st.sampled_from(["a", "b", "ba", "c", "=", "\0"])
PUTS = st.tuples(
    st.just("put"), KEYS, st.sampled_from(["", "1", "=2", "bitcask_tombstone", "x" * 90]), st.integers(0, 2)
)
STEPS = PUTS | st.tuples(st.just("delete"), KEYS) | st.just(("read",))
OPERATIONS = st.lists(st.tuples(KEYS, st.none() | st.sampled_from(["", "s", "=", "bitcask_tombstone3"])), max_size=3)
WHAT_HAPPENS = st.lists(
    st.tuples(st.just("simple"), OPERATIONS)
    | st.tuples(st.just("request"), st.lists(STEPS, max_size=4))
    | st.tuples(st.just("refused"), st.lists(STEPS, max_size=3))
    | st.tuples(st.just("compact"), st.integers(0, 4))
    | st.tuples(st.sampled_from(["step", "apply", "reopen"]), st.none()),
    max_size=30,
)


def do(store: Store, model: Model, what: str, content: Any) -> None:
    """One thing that happens, to both."""
    if what == "simple":
        operations = [(key.encode(), None if value is None else value.encode()) for key, value in content]
        store.add(operations)
        model.simple(operations)
    elif what in ("request", "refused"):
        steps = [*content, ("fail",)] if what == "refused" else content
        store.add([request(steps)])
        model.request(steps)
    elif what == "compact":
        steps = [("compact", model.revision - content)]
        store.add([request(steps)])
        model.request(steps)
    elif what == "step":
        store.add([Request(b"")])
        model.request([])
    else:
        store.apply()
        if what == "reopen":
            store.machine = machine_on("", store.machine.store)


def check(view: View, model: Model) -> None:
    """The view shows what the model has: each revision from the compacted one on, and all changes since."""
    assert (view.revision, view.compacted) == (model.revision, model.compacted)
    for revision in range(max(model.compacted, 1), model.revision + 1):
        content = model.contents[revision]
        assert list(view.range(b"", None, revision)) == [content[key] for key in sorted(content)], revision
        assert list(view.range(b"a", b"c", revision)) == [content[key] for key in sorted(content) if b"a" <= key < b"c"]
        assert view.count(b"b", None, revision) == sum(key >= b"b" for key in content)
        for key in (b"a", b"\0", b"none"):
            assert view.get(key, revision) == content.get(key)
    since = [change for change in model.changes if change[0] >= model.compacted]
    found = list(view.changes(Revision(max(model.compacted, 0), 0)))
    assert [(each.main, each.sub, each.record.key) for each in found] == [change[:3] for change in since]
    for each, (_, _, _, record, before) in zip(found, since):
        assert (None if each.deleted else each.record) == record
        if each.main > model.compacted:
            assert view.prev_of(each) == before


@given(WHAT_HAPPENS)
def test_every_revision_can_be_read_as_the_model_has_it(happened):
    store, model = Store(machine_on("memory")), Model()
    for what, content in happened:
        do(store, model, what, content)
        if what == "apply":
            check(store.machine.newest, model)
    store.apply()
    with store.machine.view() as view:
        check(view, model)
    check(store.machine.newest, model)
    assert dict(store.machine.scan()) == {key: record.value for key, record in model.now.items()}
    assert [store.machine.lookup(key) for key in model.now] == [record.value for record in model.now.values()]


@pytest.mark.parametrize("engine", ENGINES)
@given(happened=WHAT_HAPPENS)
def test_the_rows_are_the_same_on_every_engine_however_entries_are_divided_into_batches(engine, happened):
    """Invariant 1. The other one applies each entry alone, on an engine in memory, and comes to it by a snapshot."""
    store, model, alone = Store(machine_on(engine)), Model(), Store(machine_on("memory"))
    with store.machine.store:
        for what, content in happened:
            do(store, model, what, content)
            if what not in ("apply", "reopen"):
                alone.entries = store.entries[-1:]
                alone.apply()
        store.apply()
        check(store.machine.newest, model)
        assert list(store.machine.store.scan()) == list(alone.machine.store.scan())
        if store.machine.applied_index:
            metadata, snapshot = store.machine.snapshot()
            with snapshot:
                other = machine_on("memory")
                other.recover_from_snapshot(metadata, snapshot.scan())
            check(other.newest, model)


@pytest.mark.parametrize("plain", [Writes, FastWrites])
@given(happened=WHAT_HAPPENS)
def test_the_fast_form_writes_the_same_rows_and_tells_the_same_changes(plain, happened):
    """Of a batch each, as the state machine would have them; `plain` against itself shows that nothing else differs."""
    rows, told = [], []
    for form in (Writes, plain):
        state, store = None, MemoryStore()
        for what, content in happened:
            batch = WriteBatch()
            writes = form(store, state, batch)
            if what == "simple":
                for half in (content, content[::-1]):
                    writes.carry_out([(key.encode(), None if value is None else value.encode()) for key, value in half])
            else:
                writes.begin()
                writes.begin_revisions()
                for word, *arguments in content if what == "request" else ():
                    if word == "put":
                        writes.put(arguments[0].encode(), arguments[1].encode(), arguments[2])
            writes.end()
            told += writes.made()
            state = writes.state if writes.begun else None
            rows.append((batch.operations, batch.size_bytes, state))
            store.write(batch)
    assert rows[: len(happened)] == rows[len(happened) :]
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def kept(machine: StateMachine) -> list[tuple[bytes, bytes]]:
    """The rows of keys and of history."""
    return [row for row in machine.store.scan() if row[0][:1] in (USER, HISTORY)]


def grown(*entries: Any) -> Store:
    """A store with these entries applied, each alone; revisions have begun."""
    store = Store(machine_on("memory"))
    for operations in ([Request(b"")], *entries):
        store.add(operations)
        store.apply()
    return store


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask"])
def test_after_a_power_cut_keys_history_and_revision_are_of_the_applied_index(engine, rng):
    """All of an entry's rows are in one batch with its index, those that compaction deletes, too."""
    disk = SimEnv()
    store, other = Store(machine_on(engine, disk=disk)), Store(machine_on("memory"))
    rows_at = {0: []}
    for each in range(60):
        some = [(b"%d" % rng.randrange(6), rng.choice([None, b"v%d" % each])) for _ in range(rng.randrange(1, 4))]
        revision = store.machine.revision
        what = rng.choice([some, some, [request([("put", "a", "x", 0), ("compact", revision)])], [Request(b"")]])
        for one in (store, other):
            one.add(what)
            one.apply()
        rows_at[other.machine.applied_index] = list(other.machine.store.scan())
    survived = set()
    for policy in Policy:
        with engines.open("/disk/store", engine, env=disk.crash(policy, rng), sync=False, **TINY[engine]) as found:
            machine = StateMachine(found)
            assert list(found.scan()) == rows_at[machine.applied_index]
            assert machine.revision == View(found).revision
            survived.add(machine.applied_index)
    assert max(survived) > 0


def test_a_refused_request_leaves_nothing_and_takes_no_revision():
    store = grown([(b"a", b"1")])
    before = kept(store.machine)
    store.add([request([("put", "a", "2", 5), ("put", "b", "2", 0), ("delete", "a"), ("fail",)])])
    store.add([request([("read",)])])
    refused, read = store.apply()
    assert isinstance(refused, Evaluated) and isinstance(refused.answer, Refused)
    assert [record.value for record in read.answer[0]] == [b"1"]
    assert kept(store.machine) == before
    assert store.machine.revision == 2


def test_a_request_sees_what_it_and_the_entries_before_it_in_the_batch_have_written():
    store = grown([(b"a", b"1"), (b"c", b"1")])
    store.add([(b"b", b"2"), (b"c", None)])
    steps = [("put", "d", "3", 0), ("delete", "a"), ("read",), ("put", "bb", "4", 0), ("delete", "d"), ("read",)]
    store.add([request(steps)])
    store.add([request([("read",)])])
    _, seen, after = store.apply()
    first, second = ([(record.key, record.value) for record in seen.answer[at]] for at in (2, 5))
    assert first == [(b"b", b"2"), (b"d", b"3")]
    assert second == [(b"b", b"2"), (b"bb", b"4")]
    assert after.answer == [seen.answer[5]]


def test_revisions_begin_with_the_first_request_and_older_rows_are_of_revision_1():
    """So nodes whose directories are of an earlier version, at different entries, begin at the same one."""
    store = Store(machine_on("memory"))
    store.add([(b"a", b"=old"), (b"b", b"bitcask_tombstone")])
    store.apply()
    assert {key for key, _ in store.machine.store.scan()} == {b"ka", b"kb", b"mapplied", b"mconf_state", b"mdigest"}
    assert (store.machine.revisions, store.machine.revision) == (None, 1)
    store.add([request([("put", "a", "new", 0)])])
    store.add([(b"b", None)])
    store.apply()
    view = store.machine.newest
    assert [(record.value, record.create, record.mod, record.version) for record in view.range(b"", None, 2)] == [
        (b"new", 1, 2, 2),
        (b"bitcask_tombstone", 1, 1, 1),
    ]
    assert [record.value for record in view.range(b"", None, 1)] == [b"=old", b"bitcask_tombstone"]
    changes = list(view.changes(Revision(1, 0)))
    assert [view.prev_of(change).value for change in changes] == [b"=old", b"bitcask_tombstone"]


def test_what_is_not_there_any_more_or_not_yet_is_refused():
    store = grown([(b"a", b"1")], [(b"a", b"2")], [(b"a", b"3")], [request([("compact", 3)])])
    view = store.machine.newest
    for read in (view.get, view.range):
        arguments = (b"a",) if read == view.get else (b"", None)
        with pytest.raises(Compacted):
            read(*arguments, 2)
        with pytest.raises(FutureRevision):
            read(*arguments, 5)
        assert read(*arguments, 3)
    with pytest.raises(Compacted):
        view.changes(Revision(2, 0))
    assert [change.main for change in view.changes(Revision(3, 0))] == [3, 4]
    assert [change.main for change in view.changes(Revision(3, 0), 1)] == [3]


def test_compaction_deletes_what_nobody_needs_and_keeps_the_deletion_at_its_revision():
    """A watch may begin at the compacted revision (etcd lost that deletion until 3.5.18, #19179)."""
    store = grown([(b"a", b"1")], [(b"b", b"1")], [(b"b", None)], [(b"a", b"2")], [(b"a", None)])
    store.add([request([("compact", 6)])])
    store.add([Request(b"")])
    store.apply()
    left = [key for key, _ in kept(store.machine)]
    assert left == [b"h" + revision.to_bytes(8) + bytes(4) for revision in (5, 6)] + [b"ka"]
    assert not backlog(store.machine.revisions)
    store.add([(b"c", b"1")])
    store.add([request([("compact", 7)])])
    store.add([Request(b"")])
    store.apply()
    left = [key for key, _ in kept(store.machine)]
    assert left == [b"h" + (7).to_bytes(8) + bytes(4), b"kc"]


def test_a_key_that_came_back_after_its_deletion_outlives_the_compaction_of_that():
    store = grown([(b"a", b"1")], [(b"a", None)], [(b"a", b"2")], [request([("compact", 4)])], [Request(b"")])
    [record] = store.machine.newest.range(b"", None)
    assert (record.value, record.create, record.version) == (b"2", 4, 1)
    assert not backlog(store.machine.revisions)


@pytest.mark.parametrize("changes", [1, 40])
def test_under_load_entries_pay_for_compaction_and_the_backlog_goes(changes):
    """EVERY entries, or fewer that change many keys, walk over PACE times as many changes as they made."""
    store = grown(*([(b"%d" % key, b"%d" % turn) for key in range(changes)] for turn in range(EVERY)))
    store.add([request([("compact", store.machine.revision)])])
    entries = 0
    store.apply()
    while backlog(store.machine.revisions):
        store.add([(b"%d" % key, b"more") for key in range(changes)])
        store.apply()
        entries += 1
    assert entries <= 2 * EVERY
    rows = sum(1 for key, _ in store.machine.store.scan() if key.startswith(HISTORY))
    assert rows <= changes * (entries + 2)


def test_a_step_of_compaction_is_bounded(monkeypatch):
    monkeypatch.setattr("server.mvcc_compaction.STEP_ROWS_MAX", 10)
    store = grown(*([(b"a", b"%d" % turn)] for turn in range(50)))
    store.add([request([("compact", store.machine.revision)])])
    store.apply()
    steps = 0
    while backlog(store.machine.revisions):
        store.add([Request(b"")])
        store.apply()
        steps += 1
    assert steps > 4


def test_an_entry_that_changes_thousands_of_keys_is_paid_for_by_the_ones_after_it():
    """Each walks over STEP_ROWS_MAX changes at most, for as long as the backlog lasts; then nothing is owed."""
    turn = [(b"%d" % key, b"") for key in range(3000)]
    store = grown(turn, turn, [request([("compact", 3)])], turn)
    steps = [store.machine.revisions[2:]]
    while backlog(store.machine.revisions):
        store.add([(b"none", None)])
        store.apply()
        steps.append(store.machine.revisions[2:])
    paid = STEP_ROWS_MAX // PACE
    assert steps == [((2, 1024), 3000 - paid), ((2, 2048), 3000 - 2 * paid), ((3, 0), 3000 - 3 * paid)]
    store.add([(b"none", None)])
    store.apply()
    assert store.machine.revisions.owed == 0


def test_every_so_many_entries_pay_for_what_they_have_changed():
    """PACE changes for each of theirs, and EVERY more, so that those who change nothing take it on, too."""
    many = [(b"%d" % key, b"") for key in range(1000)]
    store = grown(many, many, [request([("compact", 3)])])
    for what, walked in (([(b"0", b"")], 60 * PACE + EVERY), ([(b"none", None)], 60 * PACE + 2 * EVERY)):
        while store.machine.applied_index % EVERY != EVERY - 1:
            store.add(what)
            store.apply()
        store.add(what)
        store.apply()
        assert store.machine.revisions[2:] == ((2, walked), 0)


@pytest.mark.parametrize(("changes", "pays"), [(OWED_MAX - 1, False), (OWED_MAX, True)])
def test_an_entry_pays_at_once_if_it_changes_many_keys(changes, pays):
    many = [(b"%d" % key, b"") for key in range(OWED_MAX)]
    store = grown(many, many, [request([("compact", 3)])], many[:changes])
    assert backlog(store.machine.revisions) != pays


@given(happened=WHAT_HAPPENS)
@example(happened=[("simple", [("a", "")]), *[("request", [("put", "a", "", 0)])] * 2])
def test_the_fast_form_of_compaction_deletes_the_same_rows_in_the_same_order(happened):
    """Of the same changes; also of those that were before revisions, that leave a lease, and of deletions."""
    store, model = Store(machine_on("memory")), Model()
    for what, content in happened:
        if what != "compact":
            do(store, model, what, content)
    store.apply()
    writes = Writes(store.machine.store, store.machine.revisions, WriteBatch())
    found = writes.history_rows(Revision(0, 0), writes.revision + 1, 1000)
    assert len(found) == len(model.changes)
    gone = replaced(writes, found)
    assert fast_replaced(writes, found, replaced) == gone
    assert len(set(gone)) == len(gone)


@pytest.mark.parametrize("form", [replaced, partial(fast_replaced, plain=replaced)])
def test_a_damaged_change_ends_compaction(form):
    store = grown([(b"a", b"1")], [(b"a", b"2")])
    writes = Writes(store.machine.store, store.machine.revisions, WriteBatch())
    [(key, row)] = writes.history_rows(Revision(3, 0), 4, 10)
    assert len(form(writes, [(key, row)])) == 1
    for damaged in (row[:20], b"\x07" + row[1:]):
        with pytest.raises(DecodeError):
            form(writes, [(key, damaged)])


def test_a_change_that_ends_before_its_value_is_damage():
    store = grown([(b"key", b"1")])
    [(key, row)] = store.machine.store.scan(prefix=HISTORY)
    assert read_change(key, row[:-1]).record.value == b""
    for size in range(len(row) - 1):
        with pytest.raises(DecodeError):
            read_change(key, row[:size])


def test_a_leader_compacts_once_there_are_twice_as_many_revisions_as_it_keeps():
    assert due(State(199), 100) == 0
    assert due(State(200), 100) == 100
    assert due(State(299, compacted=100), 100) == 0
    assert due(State(305, compacted=100), 100) == 205
    assert due(State(1_000_000), 0) == 0


@pytest.mark.parametrize("form", [Writes, FastWrites])
def test_what_is_taken_back_is_told_to_nobody(form):
    writes = form(MemoryStore(), State(), WriteBatch())
    for undone, key in ((False, b"a"), (True, b"b"), (False, b"c")):
        writes.begin()
        writes.put(key, b"")
        if undone:
            writes.undo()
    assert [(change.main, change.record.key) for change in writes.made()] == [(2, b"a"), (3, b"c")]


def test_a_lease_that_moves_is_told():
    moved: list[tuple[bytes, int, int]] = []
    store = grown([(b"a", b"1")])
    store.machine.lease_moved = lambda *told: moved.append(told)
    store.add([request([("put", "a", "2", 7), ("put", "b", "1", 8), ("put", "b", "2", 8)])])
    store.add([(b"a", b"3"), (b"b", None)])
    store.apply()
    assert moved == [(b"a", 0, 7), (b"b", 0, 8), (b"a", 7, 0), (b"b", 8, 0)]


def test_taps_hear_of_changes_once_the_batch_is_in_the_engine():
    store = grown()
    heard: list[Any] = []
    store.machine.changes_taps.append(lambda changes: heard.append((store.machine.revision, changes)))
    store.add([(b"a", b"1")])
    store.add([request([("put", "b", "1", 0), ("fail",)])])
    store.add([(b"b", b"2"), (b"a", None)])
    store.apply()
    [(revision, changes)] = heard
    assert revision == 3
    assert [(change.main, change.sub, change.deleted, change.record.key) for change in changes] == [
        (2, 0, False, b"a"),
        (3, 0, False, b"b"),
        (3, 1, True, b"a"),
    ]
    assert list(changes) == list(store.machine.newest.changes(Revision(0, 0)))


def test_rows_of_a_later_version_are_not_opened():
    with MemoryStore() as store:
        store.put(b"mversion", (3).to_bytes(8, "little"))
        store.put(b"mapplied", bytes(16))
        with pytest.raises(CorruptionError, match="version"):
            StateMachine(store)
