"""The message that a proposal carries: any request that changes something, and who asked.

Facts of etcd 3.5's raft_internal.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engines.coding import put_varint
from server.v3.messages import Message, fields_of, int64, message, string, uint64
from server.v3.rpc_auth import (
    AuthDisableRequest,
    AuthEnableRequest,
    AuthRoleAddRequest,
    AuthRoleDeleteRequest,
    AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest,
    AuthRoleListRequest,
    AuthRoleRevokePermissionRequest,
    AuthStatusRequest,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
    AuthUserDeleteRequest,
    AuthUserGetRequest,
    AuthUserGrantRoleRequest,
    AuthUserListRequest,
    AuthUserRevokeRoleRequest,
)
from server.v3.rpc_cluster import AlarmRequest
from server.v3.rpc_kv import CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest
from server.v3.rpc_members import ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest
from server.v3.rpc_watch import LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest
from server.v3.wire import encode

__all__ = ["InternalAuthenticateRequest", "InternalRaftRequest", "LeaseExpireRequest", "RequestHeader", "entry_head"]

PACKAGE = "etcdserverpb"


@dataclass(slots=True)
class RequestHeader(Message):
    """Who asks, by authentication; 0 and "" where that is off."""

    ID: int = uint64(1)
    username: str = string(2)
    auth_revision: int = uint64(3)


@dataclass(slots=True)
class InternalAuthenticateRequest(Message):
    """A token that a node made, for the others."""

    name: str = string(1)
    password: str = string(2)
    simple_token: str = string(3)


@dataclass(slots=True)
class LeaseExpireRequest(Message):
    """A leader has found a lease expired: which entry had granted it, and in which term it was found. Not etcd's."""

    ID: int = int64(1)
    index: int = uint64(2)
    term: int = uint64(3)


@dataclass(slots=True)
class InternalRaftRequest(Message):
    """What goes through Raft: one of all these, with who asked for it."""

    header: RequestHeader | None = message(100)
    ID: int = uint64(1)
    range: RangeRequest | None = message(3)
    put: PutRequest | None = message(4)
    delete_range: DeleteRangeRequest | None = message(5)
    txn: TxnRequest | None = message(6)
    compaction: CompactionRequest | None = message(7)
    lease_grant: LeaseGrantRequest | None = message(8)
    lease_revoke: LeaseRevokeRequest | None = message(9)
    alarm: AlarmRequest | None = message(10)
    lease_checkpoint: LeaseCheckpointRequest | None = message(11)
    auth_enable: AuthEnableRequest | None = message(1000)
    auth_disable: AuthDisableRequest | None = message(1011)
    auth_status: AuthStatusRequest | None = message(1013)
    authenticate: InternalAuthenticateRequest | None = message(1012)
    auth_user_add: AuthUserAddRequest | None = message(1100)
    auth_user_delete: AuthUserDeleteRequest | None = message(1101)
    auth_user_get: AuthUserGetRequest | None = message(1102)
    auth_user_change_password: AuthUserChangePasswordRequest | None = message(1103)
    auth_user_grant_role: AuthUserGrantRoleRequest | None = message(1104)
    auth_user_revoke_role: AuthUserRevokeRoleRequest | None = message(1105)
    auth_user_list: AuthUserListRequest | None = message(1106)
    auth_role_list: AuthRoleListRequest | None = message(1107)
    auth_role_add: AuthRoleAddRequest | None = message(1200)
    auth_role_delete: AuthRoleDeleteRequest | None = message(1201)
    auth_role_get: AuthRoleGetRequest | None = message(1202)
    auth_role_grant_permission: AuthRoleGrantPermissionRequest | None = message(1203)
    auth_role_revoke_permission: AuthRoleRevokePermissionRequest | None = message(1204)
    cluster_version_set: ClusterVersionSetRequest | None = message(1300)
    cluster_member_attr_set: ClusterMemberAttrSetRequest | None = message(1301)
    downgrade_info_set: DowngradeInfoSetRequest | None = message(1302)
    lease_expire: LeaseExpireRequest | None = message(3001)  # above all of etcd's numbers
    own_compaction: CompactionRequest | None = message(3002)  # nobody asked for it: a leader keeps so many revisions


@lru_cache(maxsize=256)
def entry_head(field: str, username: str = "", auth_revision: int = 0) -> bytes:
    """The bytes of an InternalRaftRequest with a message in this field, up to the message's size: who asks, and the tag."""
    (number,) = (each.number for each in fields_of(InternalRaftRequest) if each.name == field)
    who = RequestHeader(username=username, auth_revision=auth_revision)
    return encode(InternalRaftRequest(header=who)) + put_varint(number << 3 | 2)
