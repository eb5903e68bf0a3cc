#!/usr/bin/env bash
# What: Debian's golang-github-coreos-bbolt-dev 1.3.6-2 (bbolt 1.3.6), built with golang-go of Debian 12, on a machine whose
# pages have 4,096 bytes.
#
# A bolt file has two metas, so that one of them is whole after any crash. But the page size stands in the metas, and if
# the first one is torn, bbolt 1.3.6 doesn't look for the second one: it takes the machine's page size. A file whose pages
# have another size (made on a machine with pages of 16 or 64 KiB, and moved) is refused then, although its second meta is
# whole. Whoever says Options.PageSize opens it. Later versions look for the second meta (bbolt, pull request 294).
#
# Seen (the last commit was to page 0, and one byte of its meta is damaged, as a torn write would do it):
#   pages of 4096 bytes: opened, by the second meta
#   pages of 16384 bytes: checksum error; with PageSize 16384: opened, by the second meta
set -euo pipefail

package=golang-github-coreos-bbolt-dev version=1.3.6-2
[ "$(getconf PAGESIZE)" = 4096 ]
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
command -v go >/dev/null || apt-get install -y -q --no-install-recommends golang-go >/dev/null
(cd "$work" && apt-get download -q "$package=$version" >/dev/null 2>&1 && dpkg -x "$package"_*.deb "$work/debian")

mkdir -p "$work/src/second"
cat >"$work/src/second/main.go" <<'GO'
package main

import (
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

func attempt(path string, size int) string {
	db, err := bolt.Open(path, 0600, &bolt.Options{ReadOnly: true, PageSize: size})
	if err != nil {
		return err.Error()
	}
	db.Close()
	return "opened, by the second meta"
}

func main() {
	for _, size := range []int{4096, 16384} {
		path := fmt.Sprint(size)
		db, err := bolt.Open(path, 0600, &bolt.Options{PageSize: size})
		if err != nil {
			panic(err)
		}
		db.Update(func(tx *bolt.Tx) error { // txid 2, into page 0
			_, err := tx.CreateBucket([]byte("bucket"))
			return err
		})
		db.Close()
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		file.WriteAt([]byte{0xff}, 16+55) // the last byte of the txid
		file.Close()
		fmt.Printf("pages of %d bytes: %s", size, attempt(path, 0))
		if size != 4096 {
			fmt.Printf("; with PageSize %d: %s", size, attempt(path, size))
		}
		fmt.Println()
	}
}
GO
cd "$work"
export GO111MODULE=off GOFLAGS='' GOPATH="$work:$work/debian/usr/share/gocode:/usr/share/gocode" GOCACHE="$work/cache"
go build -o second second
seen=$(./second)
echo "$seen"
[ "$seen" = "pages of 4096 bytes: opened, by the second meta
pages of 16384 bytes: checksum error; with PageSize 16384: opened, by the second meta" ]
