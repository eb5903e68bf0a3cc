#!/usr/bin/env bash
# What: goleveldb of 2020 (Debian 12's golang-github-syndtr-goleveldb-dev 0.0~git20200815.5c35d60-1), Go 1.19.
#
# Every open that finds something in the log leaves a manifest in which one table is added twice to the same level, and
# deleted nowhere: in its first record. goleveldb's own count of the tables has it once, and it opens the store again.
#
# Why: an open replays the log into a table and begins a new manifest. Its first record is the edit, which adds the table,
# and then it is filled with all tables of the version after the edit, which has it as well.
#
# Seen:
#   after open 1: 0 tables, the manifest adds 0
#   after open 2: 1 tables, the manifest adds 2
#   after open 3: 2 tables, the manifest adds 3
#   after open 4: 3 tables, the manifest adds 4
set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
for package in golang-github-syndtr-goleveldb-dev=0.0~git20200815.5c35d60-1 golang-github-golang-snappy-dev=0.0.2-3; do
    apt-get download -q -q "$package"
done
for archive in *.deb; do
    dpkg -x "$archive" .
done
mkdir -p usr/share/gocode/src/twice
cat >usr/share/gocode/src/twice/main.go <<'GO'
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/journal"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// added counts the tables that the manifest adds, less those that it deletes: tags 7 and 6 of LevelDB's version edits.
func added(directory string) int {
	current, err := os.ReadFile(filepath.Join(directory, "CURRENT"))
	must(err)
	file, err := os.Open(filepath.Join(directory, strings.TrimSpace(string(current))))
	must(err)
	defer file.Close()
	count := 0
	for records := journal.NewReader(file, nil, true, true); ; {
		record, err := records.Next()
		if err == io.EOF {
			return count
		}
		must(err)
		data, err := io.ReadAll(record)
		must(err)
		number := func() uint64 {
			value, size := binary.Uvarint(data)
			data = data[size:]
			return value
		}
		skip := func() { size := number(); data = data[size:] }
		for len(data) > 0 {
			switch number() {
			case 1:
				skip()
			case 5:
				number()
				skip()
			case 6:
				number()
				number()
				count--
			case 7:
				number()
				number()
				number()
				skip()
				skip()
				count++
			default:
				number()
			}
		}
	}
}

func main() {
	for turn := 1; turn <= 4; turn++ {
		db, err := leveldb.OpenFile(os.Args[1], nil)
		must(err)
		tables, err := db.GetProperty("leveldb.num-files-at-level0")
		must(err)
		must(db.Put([]byte{byte(turn)}, []byte("value"), nil))
		must(db.Close())
		fmt.Printf("after open %d: %s tables, the manifest adds %d\n", turn, tables, added(os.Args[1]))
	}
}
GO
GO111MODULE=off GOFLAGS='' GOPATH="$work/usr/share/gocode" GOCACHE="$work/cache" go build -o twice twice
./twice "$work/store" | tee seen

diff seen - <<'SEEN'
after open 1: 0 tables, the manifest adds 0
after open 2: 1 tables, the manifest adds 2
after open 3: 2 tables, the manifest adds 3
after open 4: 3 tables, the manifest adds 4
SEEN
