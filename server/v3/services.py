"""All services of etcd's that are served here, as one table of methods by their paths."""

from __future__ import annotations

from server.v3 import (
    auth_service,
    cluster_service,
    election_service,
    kv_service,
    lease_service,
    lock_service,
    maintenance_service,
    watch_service,
)
from server.v3.routes import table_of

__all__ = ["TABLE"]

TABLE = table_of(
    (
        kv_service.METHODS,
        watch_service.METHODS,
        lease_service.METHODS,
        lock_service.METHODS,
        election_service.METHODS,
        auth_service.METHODS,
        cluster_service.METHODS,
        maintenance_service.METHODS,
    )
)
