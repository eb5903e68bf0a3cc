"""Who asks, and whether he may."""

from __future__ import annotations

import pytest

from server.v3 import rpc, status
from server.v3.auth import Auth
from server.v3.method import Caller
from server.v3.rpc import AlarmRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from server.v3.status import Status
from server.v3.tokens import TOKEN_S
from tests.server.v3.auth_nodes import Nodes, login, ready

NOBODY = Caller()
ALARM_DEACTIVATE = 2


def _sentence(call, *arguments: object) -> tuple[object, ...] | None:
    """What a check raises; None if it lets through."""
    try:
        call(*arguments)
    except Status as error:
        return error.args
    return None


def _who(nodes: Nodes, token: str, node: int = 0) -> Caller:
    return nodes.auths[node].identify(Caller(token))


# ---- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_is_its_users_name_on_every_node():
    nodes, _ = ready(3)
    token = login(nodes, "alice", "q", node=1)
    for node in range(3):
        who = _who(nodes, token, node)
        assert (who.username, who.auth_revision) == ("alice", nodes.auths[node].table.revision)


def test_no_token_is_nobody_and_a_wrong_one_an_error_on_or_off():
    """As etcd 3.5.1: auth-off-token, auth-bad-token."""
    for nodes in (Nodes(), ready()[0]):
        auth = nodes.auths[0]
        assert auth.identify(NOBODY) == NOBODY
        for token in ("", "nonsense", "bad.1", "Bearer abc.1", "Basic cm9vdDpw"):
            assert _sentence(auth.identify, Caller(token)) == status.INVALID_AUTH_TOKEN


def test_calls_that_never_look_at_a_token_mind_a_wrong_one_only_while_authentication_is_on():
    """As etcd 3.5.1 while it is off: auth-off-token-leases."""
    wrong = Caller("nonsense")
    assert Nodes().auths[0].identify_if_on(wrong) == wrong
    assert _sentence(ready()[0].auths[0].identify_if_on, wrong) == status.INVALID_AUTH_TOKEN


def test_a_node_that_is_late_waits_for_the_entry_of_a_new_token_and_not_for_nonsense():
    nodes, _ = ready(2)
    nodes.late.add(1)
    token = login(nodes, "alice", "q")
    late = nodes.auths[1]
    assert late.ready(NOBODY) and late.ready(Caller("nonsense")) and late.ready(Caller("bad.1"))
    assert not late.ready(Caller(token))
    assert _who(nodes, token, 1).username == "alice"
    assert late.ready(Caller(token))
    assert _sentence(late.identify, Caller("bad.999999999")) == status.INVALID_AUTH_TOKEN


def test_a_token_ends_with_its_time_on_the_node_that_wasnt_asked():
    nodes, _ = ready(2)
    token = login(nodes, "alice", "q")
    nodes.now += TOKEN_S - 1
    assert _who(nodes, token, 0).username == "alice"
    nodes.now += 2
    assert _who(nodes, token, 0).username == "alice"
    assert _sentence(nodes.auths[1].identify, Caller(token)) == status.INVALID_AUTH_TOKEN


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("auth/user/changepw", {"name": "alice", "password": "new"}),
        ("auth/user/changepw", {"name": "alice", "password": "q"}),  # the same, with another salt
        ("auth/user/delete", {"name": "alice"}),
        ("auth/disable", {}),
    ],
)
def test_a_token_ends_with_what_it_was_given_for(path, fields):
    nodes, root = ready(2)
    token = login(nodes, "alice", "q")
    nodes.call(path, root, **fields)
    for auth in nodes.auths:
        assert _sentence(auth.identify, Caller(token)) == status.INVALID_AUTH_TOKEN


def test_a_user_who_comes_back_doesnt_get_the_old_tokens_back():
    nodes, root = ready()
    token = login(nodes, "alice", "q")
    nodes.call("auth/user/delete", root, name="alice")
    nodes.call("auth/user/add", root, name="alice", password="q")
    assert _sentence(nodes.auths[0].identify, Caller(token)) == status.INVALID_AUTH_TOKEN


def test_tokens_of_before_a_pause_are_worth_nothing_after_it():
    nodes, root = ready()
    token = login(nodes, "alice", "q")
    nodes.call("auth/disable", root)
    nodes.call("auth/enable")
    assert _sentence(nodes.auths[0].identify, Caller(token)) == status.INVALID_AUTH_TOKEN


def test_another_role_is_no_reason_to_authenticate_again():
    """auth-old-revision-token: the token goes on, with the new revision."""
    nodes, root = ready()
    token = login(nodes, "alice", "q")
    nodes.call("auth/user/add", root, name="bob", password="p")
    assert _who(nodes, token).auth_revision == nodes.auths[0].table.revision


# ---- what is permitted ----------------------------------------------------------------------------------------------


def _checks(auth: Auth, who: Caller) -> dict[str, tuple[object, ...] | None]:
    return {
        "range": _sentence(auth.check_range, who, b"a", b"c"),
        "range too far": _sentence(auth.check_range, who, b"a", b"c\0"),
        "put": _sentence(auth.check_put, who, PutRequest(b"w")),
        "put prev_kv": _sentence(auth.check_put, who, PutRequest(b"w", prev_kv=True)),
        "put lease": _sentence(auth.check_put, who, PutRequest(b"w", lease=77)),
        "delete": _sentence(auth.check_delete, who, DeleteRangeRequest(b"b", b"c", True)),
        "txn": _sentence(auth.check_txn, who, TxnRequest()),
        "watch": _sentence(auth.check_watch, who, b"a", b""),
        "watch all": _sentence(auth.check_watch, who, b"", b"\0"),
        "watch no key": _sentence(auth.check_watch, who, b"", b""),
        "lease write": _sentence(auth.check_lease_write, who, 78),
        "lease read": _sentence(auth.check_lease_read, who, 78),
        "lease theirs": _sentence(auth.check_lease_write, who, 77),
        "known": _sentence(auth.check_known, who),
        "root": _sentence(auth.check_root, who),
        "own user": _sentence(auth.check_own_user, who, "alice"),
        "own role": _sentence(auth.check_own_role, who, "reader"),
    }


def _ready_with_leases() -> tuple[Nodes, str]:
    nodes, root = ready()
    nodes.leased.update({77: [b"k"], 78: [b"b"]})
    return nodes, root


def test_while_it_is_off_everything_is_permitted():
    nodes = Nodes()
    nodes.leased[77] = [b"k"]
    assert set(_checks(nodes.auths[0], NOBODY).values()) == {None}


def test_root_may_do_everything():
    nodes, root = _ready_with_leases()
    assert set(_checks(nodes.auths[0], _who(nodes, root)).values()) == {None}


def test_nobody_may_do_nothing():
    nodes, _ = _ready_with_leases()
    checks = _checks(nodes.auths[0], NOBODY)
    watches = {what for what, sentence in checks.items() if sentence == status.PERMISSION_DENIED}
    assert watches == {"watch", "watch all", "watch no key"}
    assert {checks[what] for what in checks.keys() - watches} == {status.USER_EMPTY}


def test_a_user_may_do_what_his_roles_say():
    nodes, _ = _ready_with_leases()
    checks = _checks(nodes.auths[0], _who(nodes, login(nodes, "alice", "q")))
    allowed = {what for what, sentence in checks.items() if sentence is None}
    assert allowed == {
        *("range", "put", "delete", "txn", "watch", "lease write", "lease read", "known", "own user", "own role")
    }
    assert {checks[what] for what in checks.keys() - allowed} == {status.PERMISSION_DENIED}


def test_a_user_without_a_role_is_a_user_and_no_more():
    nodes, _ = _ready_with_leases()
    checks = _checks(nodes.auths[0], _who(nodes, login(nodes, "dora", "d")))
    assert {what for what, sentence in checks.items() if sentence is None} == {"txn", "known"}


def test_a_check_of_before_a_change_isnt_good_after_it():
    nodes, root = ready()
    alice, who_root = _who(nodes, login(nodes, "alice", "q")), _who(nodes, root)
    auth = nodes.auths[0]
    auth.settled(alice)
    nodes.call("auth/role/revoke", root, role="reader", key=b"a", range_end=b"b")
    assert _sentence(auth.check_range, alice, b"b", b"c") == status.AUTH_OLD_REVISION
    assert _sentence(auth.check_entry, "put", alice, PutRequest(b"w")) == status.AUTH_OLD_REVISION
    assert _sentence(auth.settled, alice) == status.AUTH_OLD_REVISION
    assert _sentence(auth.check_range, who_root, b"b", b"c") == status.AUTH_OLD_REVISION
    assert _sentence(auth.settled, NOBODY) is None


def test_a_user_who_lost_the_root_role_isnt_root_however_new_his_revision():
    nodes, root = ready()
    nodes.call("auth/user/grant", root, user="alice", role="root")
    alice = _who(nodes, login(nodes, "alice", "q"))
    auth = nodes.auths[0]
    assert _sentence(auth.check_root, alice) is None
    nodes.call("auth/user/revoke", root, name="alice", role="root")
    assert _sentence(auth.check_root, alice) == status.PERMISSION_DENIED


def test_a_user_who_is_gone_is_denied():
    auth = ready()[0].auths[0]
    eve = Caller(username="eve", auth_revision=auth.table.revision)
    assert _sentence(auth.check_range, eve, b"a", b"") == status.PERMISSION_DENIED
    assert _sentence(auth.check_known, eve) == status.PERMISSION_DENIED
    assert _sentence(auth.check_root, eve) == status.PERMISSION_DENIED


# ---- entries --------------------------------------------------------------------------------------------------------

SECRET = RequestOp(request_range=RangeRequest(b"k"))
ENTRIES = {
    "range": RangeRequest(b"a"),
    "put": PutRequest(b"b"),
    "delete_range": DeleteRangeRequest(b"b"),
    "txn": TxnRequest(success=[RequestOp(request_put=PutRequest(b"b", prev_kv=True))]),
    "compaction": rpc.CompactionRequest(2),
    "lease_grant": rpc.LeaseGrantRequest(60, 79),
    "lease_revoke": rpc.LeaseRevokeRequest(78),
    "alarm": AlarmRequest(),
    "authenticate": rpc.InternalAuthenticateRequest("alice"),
    "auth_user_get": rpc.AuthUserGetRequest("alice"),
    "auth_role_get": rpc.AuthRoleGetRequest("reader"),
}
REFUSED = [
    ("range", RangeRequest(b"k")),
    ("put", PutRequest(b"b", lease=77)),
    ("put", PutRequest(b"w", prev_kv=True)),
    ("delete_range", DeleteRangeRequest(b"w", b"x", True)),
    ("txn", TxnRequest(success=[RequestOp(request_txn=TxnRequest(failure=[SECRET]))])),
    ("txn", TxnRequest([rpc.Compare(key=b"k")])),
    ("txn", TxnRequest(failure=[RequestOp(request_put=PutRequest(b"b", lease=77))])),
    ("lease_revoke", rpc.LeaseRevokeRequest(77)),
    ("alarm", AlarmRequest(1)),
    ("alarm", AlarmRequest(ALARM_DEACTIVATE)),
    ("auth_user_get", rpc.AuthUserGetRequest("root")),
    ("auth_role_get", rpc.AuthRoleGetRequest("root")),
]
FIELDS = sorted(
    field.name for field in rpc.InternalRaftRequest.__dataclass_fields__.values() if field.name not in ("header", "ID")
)


@pytest.mark.parametrize("field", FIELDS)
def test_every_entry_needs_a_right_and_what_has_no_row_is_roots(field):
    nodes, root = _ready_with_leases()
    auth = nodes.auths[0]
    alice, entry = _who(nodes, login(nodes, "alice", "q")), ENTRIES.get(field)
    nobody = _sentence(auth.check_entry, field, NOBODY, entry)
    assert nobody == (None if field == "authenticate" else status.USER_EMPTY)
    assert _sentence(auth.check_entry, field, alice, entry) == (None if field in ENTRIES else status.PERMISSION_DENIED)
    assert _sentence(auth.check_entry, field, _who(nodes, root), entry) is None
    assert _sentence(Nodes().auths[0].check_entry, field, NOBODY, entry) is None


@pytest.mark.parametrize(("field", "entry"), REFUSED)
def test_entries_that_reach_too_far_are_denied(field, entry):
    nodes, root = _ready_with_leases()
    auth = nodes.auths[0]
    assert (
        _sentence(auth.check_entry, field, _who(nodes, login(nodes, "alice", "q")), entry) == status.PERMISSION_DENIED
    )
    assert _sentence(auth.check_entry, field, _who(nodes, root), entry) is None


def test_maintenance_refuses_in_its_own_words():
    """auth-no-token-snapshot: code 2, and "auth:"."""
    nodes, root = ready()
    auth = nodes.auths[0]
    alice = Caller(login(nodes, "alice", "q"))
    assert _sentence(auth.root_of_maintenance, NOBODY) == (2, "auth: user name is empty")
    assert _sentence(auth.root_of_maintenance, alice) == (2, "auth: permission denied")
    assert _sentence(auth.root_of_maintenance, Caller("nonsense")) == (2, "auth: invalid auth token")
    assert auth.root_of_maintenance(Caller(root)).username == "root"


# ---- passwords in every request -------------------------------------------------------------------------------------


def test_basic_hashes_once_and_again_when_the_password_has_changed(monkeypatch):
    nodes, root = ready()
    auth = nodes.auths[0]
    hashed = []
    match = auth.passwords.match
    monkeypatch.setattr(
        auth.passwords, "match", lambda record, password: hashed.append(password) or match(record, password)
    )
    for _ in range(3):
        who = auth.basic("alice", "q")
        assert who is not None and who.username == "alice" and who.auth_revision == auth.table.revision
    assert hashed == ["q"]
    nodes.call("auth/user/changepw", root, name="alice", password="new")
    assert auth.basic("alice", "q") is None
    assert auth.basic("alice", "new") is not None
    assert auth.basic("eve", "q") is None
    assert hashed == ["q", "q", "new", "q"]


def test_what_changes_while_a_password_is_checked_makes_its_user_one_of_before(monkeypatch):
    nodes, root = ready()
    auth = nodes.auths[0]
    match = auth.passwords.match

    def meanwhile(record, password):
        found = match(record, password)
        nodes.call("auth/user/changepw", root, name="alice", password="new")
        return found

    monkeypatch.setattr(auth.passwords, "match", meanwhile)
    assert _sentence(auth.check_range, auth.basic("alice", "q"), b"a", b"b") == status.AUTH_OLD_REVISION
