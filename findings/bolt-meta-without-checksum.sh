#!/usr/bin/env bash
# What: PyPI's boltdb 0.0.2 (a port of boltdb to Python); Debian's golang-github-coreos-bbolt-dev 1.3.6-2 (bbolt 1.3.6).
#
# A bolt meta ends in a checksum of its bytes, by which a torn one is told from a whole one. The Python port never computes
# it, and writes 0; and bbolt 1.3.6 (boltdb, too) takes 0 for "not set" and doesn't verify such a meta. So the file is read
# without a word. Since 1.3.7 bbolt takes 0 for a wrong checksum, and refuses the file (by its source; not run here).
#
# Seen:
#   boltdb 0.0.2 has written the checksums 0000000000000000 0000000000000000
#   bbolt 1.3.6 reads key = value
set -euo pipefail

package=golang-github-coreos-bbolt-dev version=1.3.6-2
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
command -v go >/dev/null || apt-get install -y -q --no-install-recommends golang-go >/dev/null
(cd "$work" && apt-get download -q "$package=$version" >/dev/null 2>&1 && dpkg -x "$package"_*.deb "$work/debian")
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check boltdb==0.0.2 2>/dev/null

cd "$work"
venv/bin/python - 2>/dev/null <<'PYTHON'
from boltdb import BoltDB

db = BoltDB("db")
for _ in range(2):  # once into each meta
    with db.update() as tx:
        bucket = tx.bucket(b"bucket") or tx.create_bucket(b"bucket")
        bucket.put(b"key", b"value")
PYTHON
checksum() {
    od -An -v -t x8 -j "$1" -N 8 db | tr -d ' '
}
written="boltdb 0.0.2 has written the checksums $(checksum 72) $(checksum $((4096 + 72)))"
echo "$written"

mkdir -p src/read
cat >src/read/main.go <<'GO'
package main

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

func main() {
	db, err := bolt.Open("db", 0600, &bolt.Options{ReadOnly: true})
	if err != nil {
		panic(err)
	}
	db.View(func(tx *bolt.Tx) error {
		fmt.Printf("bbolt 1.3.6 reads key = %s\n", tx.Bucket([]byte("bucket")).Get([]byte("key")))
		return nil
	})
}
GO
export GO111MODULE=off GOFLAGS='' GOPATH="$work:$work/debian/usr/share/gocode:/usr/share/gocode" GOCACHE="$work/cache"
go build -o read read
seen=$(./read)
echo "$seen"
[ "$written" = "boltdb 0.0.2 has written the checksums 0000000000000000 0000000000000000" ]
[ "$seen" = "bbolt 1.3.6 reads key = value" ]
