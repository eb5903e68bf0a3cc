#!/usr/bin/env bash
# What: plyvel 1.5.1 from PyPI (LevelDB 1.22; CPython 3.8 to 3.12 on Linux).
#
# DB.compact_range() without arguments compacts nothing; its documentation gives None as the default of both bounds. With
# only a start it compacts nothing either. It writes the memtable to a table and returns.
#
# Why: a bound that isn't given is handed to LevelDB as an empty key and not as a null pointer. An empty begin is right by
# luck; an empty end lies before every key.
#
# Seen (tables on each level, and the same after each call):
#   filled: 0 tables on level 0, 2 on level 1, 1 on level 2
#   compact_range(): 0 tables on level 0, 2 on level 1, 1 on level 2
#   compact_range(start=b''): 0 tables on level 0, 2 on level 1, 1 on level 2
#   compact_range(start=b'', stop=b'~'): 0 tables on level 0, 0 on level 1, 1 on level 2
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check plyvel==1.5.1

"$work/venv/bin/python" - "$work/store" <<'PYTHON' | tee "$work/seen"
import sys

import plyvel


def show(call, db):
    zero, one, two = (db.get_property(b"leveldb.num-files-at-level%d" % level).decode() for level in range(3))
    print(f"{call}: {zero} tables on level 0, {one} on level 1, {two} on level 2")


with plyvel.DB(sys.argv[1], create_if_missing=True) as db:
    for first, last in ((b"a", b"z"), (b"a", b"c"), (b"x", b"z")):
        db.put(first, b"value")
        db.put(last, b"value")
        db.compact_range(start=b"~", stop=b"~")  # no key is there: only the memtable is written
    show("filled", db)
    db.compact_range()
    show("compact_range()", db)
    db.compact_range(start=b"")
    show("compact_range(start=b'')", db)
    db.compact_range(start=b"", stop=b"~")
    show("compact_range(start=b'', stop=b'~')", db)
PYTHON

diff "$work/seen" - <<'SEEN'
filled: 0 tables on level 0, 2 on level 1, 1 on level 2
compact_range(): 0 tables on level 0, 2 on level 1, 1 on level 2
compact_range(start=b''): 0 tables on level 0, 2 on level 1, 1 on level 2
compact_range(start=b'', stop=b'~'): 0 tables on level 0, 0 on level 1, 1 on level 2
SEEN
