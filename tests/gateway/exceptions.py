"""The situations in which this server answers otherwise than etcd on purpose, each with its reason.

The runner plays them, too, and says so if one of them passes: then it is none any more.
"""

from __future__ import annotations

__all__ = ["EXCEPTIONS", "OF_ONE_NODE"]

EXCEPTIONS: dict[str, str] = {
    "bad-path-root": "outside of /v3/ a path is a key: POST of one is 405",
    "bad-v2": "outside of /v3/ a path is a key: GET of one that isn't there is our own 404",
    "bad-v3alpha": "outside of /v3/ a path is a key: POST of one is 405",
    "hashkv": "3.5.1 has no path for it; ours is that of 3.5.30, whose answer tests/server/v3/test_maintenance_service.py asks for",
    "livez": "outside of /v3/ a path is a key: GET of one that isn't there is our own 404",
    "quota-txn-range": "it is the alarm that refuses, and that lets a transaction without a put through",
    "readyz": "outside of /v3/ a path is a key: GET of one that isn't there is our own 404",
}

OF_ONE_NODE = frozenset(
    {
        "alarm-status",
        "auth-off-token-leases",
        "auth-off-token-status",
        "auth-permission-denied",
        "auth-root",
        "lease-leases-order",
        "member-add-same-url",
        "member-list",
        "member-list-linearizable",
        "quota-put",
        "status",
    }
)
"""Situations that say how many nodes there are, or that who answers leads: on more of them etcd answers otherwise, too."""
