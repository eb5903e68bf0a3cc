#!/usr/bin/env bash
# What: Debian 12's etcd-server 3.4.23-4, through its JSON gateway.
#
# A watch stream takes many requests in one body, and a client that has a thousand watches to open may send them so. But Go's server
# for HTTP/1 reads no more of a request's body once an answer has begun, and the gateway's answer begins with the first watch that
# is created. So some of the requests are read, and the rest is dropped: no error, and no event for them either.
#
# Why it matters: a watch that is missing looks like the watch of a key that doesn't change. Who counts the "created" messages
# finds out.
#
# Seen: 289, 537, 107, 583 and 367 of 1000 watches were created; other numbers each time
set -euo pipefail

work=$(mktemp -d)
trap 'kill "$etcd" 2>/dev/null || true; rm -rf "$work"' EXIT
command -v etcd >/dev/null || apt-get install -y -q --no-install-recommends etcd-server >/dev/null
client=http://127.0.0.1:23797 peer=http://127.0.0.1:23807
etcd --data-dir "$work/data" --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
	--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
for _ in $(seq 100); do curl -sS $client/v3/kv/range -d '{"key":"YQ=="}' >/dev/null 2>&1 && break || sleep 0.1; done

python3 -c 'print("{\"create_request\":{\"key\":\"YQ==\"}}" * 1000)' >"$work/body"
fewest=1000
for _ in 1 2 3 4 5; do
	created=$(curl -sSN --max-time 3 $client/v3/watch --data-binary @"$work/body" 2>/dev/null | grep -c '"created":true' || true)
	echo "$created of 1000 watches were created"
	[ "$created" -lt "$fewest" ] && fewest=$created
done
[ "$fewest" -gt 0 ] && [ "$fewest" -lt 1000 ]
