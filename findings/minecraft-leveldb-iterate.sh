#!/usr/bin/env bash
# What: PyPI's amulet-leveldb 1.0.7 (Mojang's LevelDB, of Minecraft) on a store of PyPI's plyvel 1.5.1 (LevelDB 1.22, with
# its default compression, Snappy), on Linux with Python 3.11 or 3.12.
#
# A store whose tables are compressed with Snappy, LevelDB's default, seems to be empty: iterating ends at once, without
# an error. get of one of the keys raises. Nothing is lost; plyvel still has all.
#
# Why: this LevelDB is built without Snappy. In LevelDB's C++ interface an iterator that meets a block it can't read is
# merely not valid any more, as at the end, and has a status that says why; who doesn't ask for it sees the end.
#
# Seen:
#   plyvel: 1000 pairs
#   amulet-leveldb: iterate gives 0 pairs
#   amulet-leveldb: get raises Not implemented: encountered a block compressed with an unknown decompressor
#   plyvel: 1000 pairs
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check amulet-leveldb==1.0.7 plyvel==1.5.1

run() {
    "$work/venv/bin/python" -c "$1" "$work/store"
}
look() {
    run '
import plyvel, sys
with plyvel.DB(sys.argv[1]) as db:
    print("plyvel:", len(list(db)), "pairs")'
}

run '
import plyvel, sys
with plyvel.DB(sys.argv[1], create_if_missing=True) as db:
    for number in range(1000):
        db.put(b"key%04d" % number, b"value %d " % number * 5)
    db.compact_range(start=b"", stop=b"\xff")'
first=$(look)
echo "$first"
seen=$(run '
import leveldb, sys
db = leveldb.LevelDB(sys.argv[1])
print("amulet-leveldb: iterate gives", len(list(db.iterate())), "pairs")
try:
    print("amulet-leveldb: get gives", db.get(b"key0001"))
except leveldb.LevelDBException as error:
    print("amulet-leveldb: get raises", error.args[0].decode())
db.close()')
echo "$seen"
last=$(look)
echo "$last"
[ "$first" = "plyvel: 1000 pairs" ] && [ "$last" = "$first" ]
[ "$seen" = "amulet-leveldb: iterate gives 0 pairs
amulet-leveldb: get raises Not implemented: encountered a block compressed with an unknown decompressor" ]
