// The real bbolt as a judge: a program of our own, linked with Debian's golang-github-coreos-bbolt-dev.
//
//	judge check FILE            bbolt's own check; one violation on each line, exit code 1 if there is one
//	judge dump FILE             every key through a cursor, and once more through Get; "path key value" in hex
//	judge reverse FILE          the same, from the last key to the first
//	judge apply FILE            operations from stdin, a transaction for each empty line
//	judge history FILE SEED N [PAGE]  N random transactions with nested and inline buckets, overwrites and deletes;
//	                            a new file has pages of PAGE bytes
//	judge backup FILE COPY      Tx.CopyFile, which is Tx.WriteTo
//
// Operations: "put BUCKET KEY VALUE", "delete BUCKET KEY", "bucket PATH", "drop PATH"; BUCKET and PATH are names joined by
// "/", everything in hex.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

var out = bufio.NewWriter(os.Stdout)

func must(err error) {
	if err != nil {
		out.Flush()
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func unhex(text string) []byte {
	data, err := hex.DecodeString(text)
	must(err)
	return data
}

func open(path string, readOnly bool) *bolt.DB {
	db, err := bolt.Open(path, 0600, &bolt.Options{ReadOnly: readOnly, Timeout: time.Second})
	must(err)
	return db
}

func check(path string) int {
	db := open(path, true)
	defer db.Close()
	count := 0
	must(db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			fmt.Fprintln(out, err)
			count++
		}
		return nil
	}))
	return count
}

type reader interface {
	Cursor() *bolt.Cursor
	Bucket([]byte) *bolt.Bucket
}

func dumpBucket(path string, bucket reader, get func([]byte) []byte, reverse bool) {
	cursor := bucket.Cursor()
	first, next := cursor.First, cursor.Next
	if reverse {
		first, next = cursor.Last, cursor.Prev
	}
	for key, value := first(); key != nil; key, value = next() {
		name := path + "/" + hex.EncodeToString(key)
		if value == nil {
			fmt.Fprintf(out, "%s bucket\n", name)
			child := bucket.Bucket(key)
			if child == nil {
				must(fmt.Errorf("the bucket %x is in the cursor, and can't be opened", key))
			}
			dumpBucket(name, child, child.Get, reverse)
			continue
		}
		if found := get(key); found == nil || !bytes.Equal(found, value) {
			must(fmt.Errorf("Get of %x says %x, and the cursor %x", key, found, value))
		}
		fmt.Fprintf(out, "%s =%s\n", name, hex.EncodeToString(value))
	}
}

func dump(path string, reverse bool) {
	db := open(path, true)
	defer db.Close()
	must(db.View(func(tx *bolt.Tx) error {
		dumpBucket("", tx, func([]byte) []byte { return nil }, reverse)
		return nil
	}))
}

func bucketOf(tx *bolt.Tx, path string, create bool) *bolt.Bucket {
	var bucket *bolt.Bucket
	for _, part := range strings.Split(path, "/") {
		name := unhex(part)
		var next *bolt.Bucket
		if bucket == nil {
			next = tx.Bucket(name)
		} else {
			next = bucket.Bucket(name)
		}
		if next == nil && create {
			var err error
			if bucket == nil {
				next, err = tx.CreateBucket(name)
			} else {
				next, err = bucket.CreateBucket(name)
			}
			must(err)
		}
		bucket = next
	}
	return bucket
}

func do(tx *bolt.Tx, words []string) {
	switch words[0] {
	case "put":
		value := []byte{}
		if len(words) > 3 {
			value = unhex(words[3])
		}
		must(bucketOf(tx, words[1], true).Put(unhex(words[2]), value))
	case "delete":
		must(bucketOf(tx, words[1], true).Delete(unhex(words[2])))
	case "bucket":
		bucketOf(tx, words[1], true)
	case "drop":
		at := strings.LastIndex(words[1], "/")
		if at < 0 {
			must(tx.DeleteBucket(unhex(words[1])))
		} else {
			must(bucketOf(tx, words[1][:at], false).DeleteBucket(unhex(words[1][at+1:])))
		}
	default:
		must(fmt.Errorf("no operation is called %q", words[0]))
	}
}

func apply(path string) {
	db := open(path, false)
	defer db.Close()
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<28)
	more := true
	for more {
		must(db.Update(func(tx *bolt.Tx) error {
			for more = input.Scan(); more && input.Text() != ""; more = input.Scan() {
				do(tx, strings.Fields(input.Text()))
			}
			return input.Err()
		}))
	}
}

func backup(path, copy string) {
	db := open(path, true)
	defer db.Close()
	must(db.View(func(tx *bolt.Tx) error { return tx.CopyFile(copy, 0600) }))
}

func history(path string, seed int64, count, page int) {
	random := rand.New(rand.NewSource(seed))
	db, err := bolt.Open(path, 0600, &bolt.Options{Timeout: time.Second, PageSize: page})
	must(err)
	defer db.Close()
	paths := []string{"6d65746364", "6d65746364", "6d65746364", "6f74686572", "6f74686572/6e6573746564", "736d616c6c/61/62"}
	for i := 0; i < count; i++ {
		must(db.Update(func(tx *bolt.Tx) error {
			for n := random.Intn(40); n >= 0; n-- {
				bucket := bucketOf(tx, paths[random.Intn(len(paths))], true)
				key := []byte(fmt.Sprintf("%06d", random.Intn(3000)))
				if random.Intn(3) == 0 {
					must(bucket.Delete(key))
					continue
				}
				size := random.Intn(60)
				if random.Intn(50) == 0 {
					size = random.Intn(20000)
				}
				value := make([]byte, size)
				random.Read(value)
				must(bucket.Put(key, value))
			}
			if random.Intn(4) == 0 {
				small := bucketOf(tx, "696e6c696e65/"+hex.EncodeToString([]byte{byte(random.Intn(9))}), true)
				must(small.Put([]byte("k"), []byte("v")))
				_, err := small.NextSequence()
				must(err)
			}
			return nil
		}))
	}
}

func main() {
	defer out.Flush()
	command, path := os.Args[1], os.Args[2]
	switch command {
	case "check":
		if check(path) > 0 {
			out.Flush()
			os.Exit(1)
		}
	case "dump":
		dump(path, false)
	case "reverse":
		dump(path, true)
	case "apply":
		apply(path)
	case "history":
		seed, err := strconv.ParseInt(os.Args[3], 10, 64)
		must(err)
		count, err := strconv.Atoi(os.Args[4])
		must(err)
		page := 0
		if len(os.Args) > 5 {
			page, err = strconv.Atoi(os.Args[5])
			must(err)
		}
		history(path, seed, count, page)
	case "backup":
		backup(path, os.Args[3])
	default:
		must(fmt.Errorf("no command is called %q", command))
	}
}
