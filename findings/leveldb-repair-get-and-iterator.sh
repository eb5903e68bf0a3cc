#!/usr/bin/env bash
# What: LevelDB 1.22 (plyvel 1.5.1 from PyPI, CPython 3.8 to 3.12 on Linux); Debian's LevelDB 1.23 does the same.
#
# After RepairDB on a sound store, get returns an older value than the iterator, and a deleted key, until some compaction
# has gone over it. Nothing was damaged, and nothing is logged.
#
# Why: RepairDB puts every table into level 0 under its old number. On level 0, get takes the table with the higher number
# for the newer one, but a compaction gives its output, which may be old data, the highest number of all. The iterator and
# the compaction go by sequence numbers.
#
# Seen:
#   before: get a = new, deleted = None; iterator {'0': 'new', 'a': 'new', 'z': 'new'}
#   repaired: get a = old, deleted = old; iterator {'0': 'new', 'a': 'new', 'z': 'new'}
#   compacted: get a = new, deleted = None; iterator {'0': 'new', 'a': 'new', 'z': 'new'}
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check plyvel==1.5.1

"$work/venv/bin/python" - "$work/store" <<'PYTHON' | tee "$work/seen"
import sys

import plyvel

path = sys.argv[1]


def flush(db):
    db.compact_range(start=b"~", stop=b"~")  # no key is there: only the memtable is written


def show(when, db):
    pairs = {key.decode(): value.decode() for key, value in db}
    a, deleted = ((value.decode() if value else None) for value in (db.get(b"a"), db.get(b"deleted")))
    print(f"{when}: get a = {a}, deleted = {deleted}; iterator {pairs}")


with plyvel.DB(path, create_if_missing=True) as db:
    db.put(b"0", b"old")
    flush(db)
    for key in (b"a", b"deleted", b"z"):
        db.put(key, b"old")
    flush(db)
    db.put(b"0", b"new")
    db.put(b"a", b"new")
    db.delete(b"deleted")
    flush(db)
    db.put(b"z", b"new")
    flush(db)
    db.compact_range(start=b"x", stop=b"zz")  # only z: its table with the old a gets the highest number
    show("before", db)
plyvel.repair_db(path)
with plyvel.DB(path) as db:
    show("repaired", db)
    db.compact_range(start=b"", stop=b"~")
    show("compacted", db)
PYTHON

iterator="iterator {'0': 'new', 'a': 'new', 'z': 'new'}"
diff "$work/seen" - <<SEEN
before: get a = new, deleted = None; $iterator
repaired: get a = old, deleted = old; $iterator
compacted: get a = new, deleted = None; $iterator
SEEN
