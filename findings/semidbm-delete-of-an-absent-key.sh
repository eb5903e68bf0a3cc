#!/usr/bin/env bash
# What: PyPI's semidbm 0.5.1 (a dbm in pure Python).
#
# `del db[key]` for a key that isn't there raises KeyError, as with a dictionary. But before it looks for the key it has
# appended the record of the deletion, and it doesn't count that record. From then on each value that is put is read too far
# ahead in the file, without an error: other bytes come out (verify_checksums=True finds it). And the file doesn't open any
# more: the record deletes what isn't there, and KeyError ends the loading.
#
# Why it matters: a caller who catches the KeyError, as one does with a dictionary, loses the store.
#
# Seen:
#   del of an absent key: KeyError
#   then b'value' is put, and b'eyM\xbd\xf2' is read
#   opened again: KeyError
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check semidbm==0.5.1

cat >"$work/run.py" <<'END'
import sys
import semidbm

store = semidbm.open(sys.argv[1], "c")
try:
    del store[b"no key"]
except KeyError:
    print("del of an absent key: KeyError")
store[b"key"] = b"value"
print("then b'value' is put, and", store[b"key"], "is read")
store.close()
try:
    semidbm.open(sys.argv[1], "c")
except KeyError:
    print("opened again: KeyError")
END
seen=$("$work/venv/bin/python" "$work/run.py" "$work/store")
echo "$seen"
[[ "$seen" = "del of an absent key: KeyError
then b'value' is put, and "*" is read
opened again: KeyError" ]] && [[ "$seen" != *"b'value' is read"* ]]
