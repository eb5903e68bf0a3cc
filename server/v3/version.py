"""Which etcd this server answers as: clients decide by it which paths there are (`GET /version`)."""

__all__ = ["CLUSTER_VERSION", "DOWNGRADE_VERSION", "SERVER_VERSION"]

SERVER_VERSION = "3.5.1"
CLUSTER_VERSION = "3.5.0"
DOWNGRADE_VERSION = (3, 4)  # the only one that a cluster of 3.5 may be taken back to
