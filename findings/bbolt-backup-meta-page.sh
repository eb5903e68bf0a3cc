#!/usr/bin/env bash
# What: Debian's golang-github-coreos-bbolt-dev 1.3.6-2 (bbolt 1.3.6), built with golang-go of Debian 12.
#
# A bolt file has two metas, and a commit writes to page txid % 2, so that it replaces the older one. A backup (Tx.WriteTo,
# Tx.CopyFile, and so `etcdctl snapshot save`) has the newest meta in page 0 whatever its txid, and a copy of it under
# txid - 1 in page 1. If the txid is odd, the first commit after a restore replaces the *newest* meta, and keeps the copy.
#
# Why it matters: whoever tells from the txid which meta is in the right page takes every second healthy backup for damaged.
# Nothing is lost: both metas have the same root and the same freelist.
#
# Seen (txid of page 0, txid of page 1):
#   a database: 4 5; its backup: 5 4; the backup after its first commit: 6 4
#   a database: 6 5; its backup: 6 5; the backup after its first commit: 6 7
set -euo pipefail

package=golang-github-coreos-bbolt-dev version=1.3.6-2
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
command -v go >/dev/null || apt-get install -y -q --no-install-recommends golang-go >/dev/null
(cd "$work" && apt-get download -q "$package=$version" >/dev/null 2>&1 && dpkg -x "$package"_*.deb "$work/debian")

mkdir -p "$work/src/backup"
cat >"$work/src/backup/main.go" <<'GO'
package main

import (
	"encoding/binary"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func commit(path string, copy string) {
	db, err := bolt.Open(path, 0600, nil)
	must(err)
	must(db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("bucket"))
		must(err)
		return bucket.Put([]byte("key"), []byte("value"))
	}))
	if copy != "" {
		must(db.View(func(tx *bolt.Tx) error { return tx.CopyFile(copy, 0600) }))
	}
	must(db.Close())
}

func txids(path string) string {
	data, err := os.ReadFile(path)
	must(err)
	return fmt.Sprint(binary.LittleEndian.Uint64(data[64:]), " ", binary.LittleEndian.Uint64(data[4096+64:]))
}

func main() {
	commit("db", "")
	commit("db", "")
	commit("db", "")
	for _, copy := range []string{"odd", "even"} {
		commit("db", copy)
		database, backup := txids("db"), txids(copy)
		commit(copy, "")
		fmt.Printf("a database: %s; its backup: %s; the backup after its first commit: %s\n", database, backup, txids(copy))
	}
}
GO
cd "$work"
export GO111MODULE=off GOFLAGS='' GOPATH="$work:$work/debian/usr/share/gocode:/usr/share/gocode" GOCACHE="$work/cache"
go build -o program backup
seen=$(./program)
echo "$seen"
[ "$seen" = "a database: 4 5; its backup: 5 4; the backup after its first commit: 6 4
a database: 6 5; its backup: 6 5; the backup after its first commit: 6 7" ]
