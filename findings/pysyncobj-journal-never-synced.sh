#!/usr/bin/env bash
# What: PyPI's pysyncobj 0.3.14 (Raft for Python) with a journal file, on Linux; needs strace.
#
# A command that PySyncObj has acknowledged survives no power cut, in spite of its journal: that isn't synced, neither for a
# command nor once in a while. Raft requires a log entry to be on stable storage before it is
# acknowledged (its paper, figure 2: "persistent state ... updated on stable storage before responding to RPCs"); so after
# a power cut of a majority, committed commands may be gone, and a vote that was given may be given again.
#
# Why: the journal is a mapping, and entries are written into it (journal.py). Its flush(), an msync, is called by destroy()
# alone. The kernel has what is in the mapping, so a killed process loses nothing.
#
# Seen:
#   100 commands acknowledged, one after the other
#   the journal: 0 calls of fsync, fdatasync, msync or sync_file_range, 1 shared mapping that is written
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pysyncobj==0.3.14

cat >"$work/run.py" <<'END'
import os, sys
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict

there = ReplDict()
files = {"journalFile": sys.argv[1] + "/journal", "fullDumpFile": sys.argv[1] + "/dump"}
node = SyncObj("127.0.0.1:26017", [], consumers=[there], conf=SyncObjConf(appendEntriesPeriod=0.001, autoTickPeriod=0.001, **files))
node.waitReady()
for number in range(100):
    there.set(number, b"v" * 100, sync=True, timeout=10)  # returns when it is committed and applied
print(len(there.items()), "commands acknowledged, one after the other", flush=True)
os._exit(0)  # as a kill would end it
END
mkdir "$work/data"
told=$(strace -f -y -qq -s 0 -e trace=mmap,fsync,fdatasync,sync,syncfs,msync,sync_file_range -o "$work/trace" \
    "$work/venv/bin/python" "$work/run.py" "$work/data")
echo "$told"
syncs=$(grep -cE 'fsync|fdatasync|msync|sync\(|syncfs|sync_file_range' "$work/trace" || true)
mappings=$(grep -E 'PROT_WRITE, MAP_SHARED.*/data/journal>' "$work/trace" | wc -l)
echo "the journal: $syncs calls of fsync, fdatasync, msync or sync_file_range, $mappings shared mapping that is written"
[ "$told" = "100 commands acknowledged, one after the other" ] && [ "$syncs" = 0 ] && [ "$mappings" -ge 1 ]
