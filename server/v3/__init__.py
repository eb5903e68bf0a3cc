"""etcd's v3 JSON gateway, on the replicated store."""
