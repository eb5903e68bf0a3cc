// The real goleveldb as a judge: a program of our own, linked with Debian's golang-github-syndtr-goleveldb-dev.
//
//	judge [flags] dump DIR      every key through an iterator, and once more through Get; "key value" in hex
//	judge [flags] apply DIR     operations from stdin, "put KEY VALUE" or "delete KEY" in hex; a batch for each empty line
//	judge [flags] compact DIR   compacts everything
//	judge [flags] touch DIR     opens and closes
//	judge [flags] hold DIR      opens, says "open", and keeps it open until stdin ends
//
// Flags: -buffer N and -table N sizes in bytes, -shallow levels of 4,000 bytes each, so that deep ones are needed, -strict all of
// goleveldb's strictness.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func unhex(text string) []byte {
	data, err := hex.DecodeString(text)
	must(err)
	return data
}

func dump(db *leveldb.DB) {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	iterator := db.NewIterator(nil, nil)
	defer iterator.Release()
	for iterator.Next() {
		value, err := db.Get(iterator.Key(), nil)
		must(err)
		if !bytes.Equal(value, iterator.Value()) {
			must(fmt.Errorf("Get and iterator disagree about %x", iterator.Key()))
		}
		fmt.Fprintf(out, "%x %x\n", iterator.Key(), value)
	}
	must(iterator.Error())
}

func apply(db *leveldb.DB) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	batch := new(leveldb.Batch)
	for in.Scan() {
		words := strings.Split(in.Text(), " ")
		switch words[0] {
		case "put":
			batch.Put(unhex(words[1]), unhex(words[2]))
		case "delete":
			batch.Delete(unhex(words[1]))
		case "":
			must(db.Write(batch, nil))
			batch.Reset()
		}
	}
	must(in.Err())
	must(db.Write(batch, nil))
}

func main() {
	buffer := flag.Int("buffer", 0, "bytes of the write buffer")
	table := flag.Int("table", 0, "bytes of a table")
	shallow := flag.Bool("shallow", false, "levels of 4,000 bytes each")
	strict := flag.Bool("strict", false, "all strictness")
	flag.Parse()
	options := &opt.Options{WriteBuffer: *buffer, CompactionTableSize: *table}
	if *shallow {
		options.CompactionTotalSize = 4000
		options.CompactionTotalSizeMultiplier = 1
	}
	if *strict {
		options.Strict = opt.StrictAll
	}
	db, err := leveldb.OpenFile(flag.Arg(1), options)
	must(err)
	switch flag.Arg(0) {
	case "dump":
		dump(db)
	case "apply":
		apply(db)
	case "compact":
		must(db.CompactRange(util.Range{}))
	case "hold":
		fmt.Println("open")
		_, err := io.Copy(io.Discard, os.Stdin)
		must(err)
	}
	must(db.Close())
}
