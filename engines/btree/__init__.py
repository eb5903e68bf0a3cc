"""The copy-on-write B+tree: bbolt's file, its transactions, and its commit protocol.

Read in this order, each file one step further:

    page         a leaf and a branch as bytes; the checksum in the room that bbolt leaves
    meta         which tree is the newest: two pages, one of them always whole
    freelist     which pages may be written, and which ones must wait for a reader
    node         a page as Python lists; splitting and joining
    pager        the mapped file, the cache of nodes, and who reads what
    cursor       one key, a range in either direction, a place to stand on
    tree         copy-on-write: changes go in, another tree comes out
    bulk         trees from sorted streams, bottom-up
    commit       how one tree takes the place of another, on disk and in memory
    recovery     new files, and choosing the meta that counts after a crash
    transaction  views, updates, buckets
    check        what can be wrong with a file
    dump         a file in words
    store        the contract on top of all that

FORMAT.md has the file format with examples, and the commands of the real tools that open it.
"""

from engines.btree.check import check_file
from engines.btree.pager import StoreFull
from engines.btree.store import BTreeStore
from engines.btree.transaction import Bucket, Update, View

__all__ = ["BTreeStore", "Bucket", "StoreFull", "Update", "View", "check_file"]
