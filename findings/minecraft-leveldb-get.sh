#!/usr/bin/env bash
# What: PyPI's amulet-leveldb 1.0.7 (Mojang's LevelDB, of Minecraft) on a store of PyPI's plyvel 1.5.1 (LevelDB 1.22), on
# Linux with Python 3.11 or 3.12. npm's leveldb-zlib 1.2.0 does the same to a store of npm's classic-level 3.0.0.
#
# A single get by amulet-leveldb makes a store of LevelDB's unreadable for LevelDB: "bad block type". Nothing is written
# by the caller, and the store still opens afterwards; it is reading that fails.
#
# Why: opening a LevelDB replays its log into a new table, in every version. Mojang's compresses the blocks of that table
# in a way of its own, 4 (deflate without zlib's header), and no file says that the store is another kind from then on.
#
# Seen:
#   plyvel: 200 pairs, in 000003.log
#   amulet-leveldb: get gives b'value 1'
#   plyvel: opened, then Corruption: bad block type, in 000005.ldb
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check amulet-leveldb==1.0.7 plyvel==1.5.1

run() {
    "$work/venv/bin/python" -c "$1" "$work/store" 2>&1
}
where() {
    (cd "$work/store" && ls | grep -E '\.(ldb|log)$' | while read -r name; do [ ! -s "$name" ] || echo "$name"; done)
}

written=$(run '
import plyvel, sys
with plyvel.DB(sys.argv[1], create_if_missing=True) as db:
    for number in range(200):
        db.put(b"key%04d" % number, b"value %d" % number)
    print(len(list(db)), "pairs")')
before=$(where)
echo "plyvel: $written, in $before"
read=$(run '
import leveldb, sys
db = leveldb.LevelDB(sys.argv[1])
print(db.get(b"key0001"))
db.close()')
after=$(where)
echo "amulet-leveldb: get gives $read"
seen=$(run '
import plyvel, sys
db = plyvel.DB(sys.argv[1])
try:
    print("opened,", len(list(db)), "pairs")
except plyvel.CorruptionError as error:
    print("opened, then", error.args[0].decode())')
echo "plyvel: $seen, in $after"
[ "$written" = "200 pairs" ] && [ "$before" = 000003.log ] && [ "$read" = "b'value 1'" ]
[ "$after" = 000005.ldb ] && [ "$seen" = "opened, then Corruption: bad block type" ]
