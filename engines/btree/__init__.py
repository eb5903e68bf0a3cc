"""The copy-on-write B+tree: bbolt's file, its transactions, and its commit protocol.

Read in this order, each file one step further:

    page         a leaf and a branch as bytes; the checksum in the room that bbolt leaves
    meta         which tree is the newest: two pages, one of them always whole
    freelist     which pages may be written, and which ones must wait for a reader
    node         a page as Python lists; splitting and joining
    pins         which trees somebody is reading
    pager        the mapped file, and the cache of nodes
    cursor       one key, a range in either direction, a place to stand on
    tree         copy-on-write: changes go in, another tree comes out
    walk         every page below a root; and so, the pages that are free
    current      the state that readers begin with, and that each commit replaces
    commit       how one tree takes the place of another, on disk and in memory: two fsyncs
    provisional  the same without an fsync, and how it is told after a crash whether it is whole
    parts        what a store is put together from, where there is a choice
    options      what a store can be told
    recovery     new files, and choosing the meta that counts after a crash
    backup       the file as of one commit
    transaction  views, updates, buckets
    bulk         trees from sorted streams, bottom-up
    compact      the same database in a fresh file
    writer       the write half of a store
    check        what can be wrong with a file
    survey       what a file is made of, in numbers
    dump         a file in words
    foreign      whose a bolt file is
    store        the contract on top of all that
    fast         what makes it fast, part by part; everything above works without it

FORMAT.md has the file format with examples, and the commands of the real tools that open it.
"""

from engines.btree.check import check_file
from engines.btree.pager import StoreFull
from engines.btree.store import BTreeStore
from engines.btree.transaction import Bucket, Update, View

__all__ = ["BTreeStore", "Bucket", "StoreFull", "Update", "View", "check_file"]
