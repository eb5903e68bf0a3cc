"""What makes the B+tree fast: five parts that stand in for plain ones, with the same bytes on disk and the same answers.

    part          stands in for            how
    read_one      current.read_one         a get without a pin                               get   1.8 µs -> 0.8
    decode        node.Node.decode         leaves with equal tables are taken apart at once   9.5 µs -> 2.4
    scan_tree     cursor.scan_tree         even leaves aren't decoded: 800,000 keys         seek   17 µs -> 6.3
    Splicing      tree.TreeWriter          old pages are cut open, and not encoded anew      put  86 µs -> 51
    PointCommits  provisional.Provisional  one key, unsynced: pages are copied, not built    put  52 µs -> 21
                                           also when a leaf is split or joined      delete  60 µs -> 27

(Keys of 16 and values of 100 bytes, 20,000 of them, unsynced; Python 3.11. A batch of 100 random keys takes 12.5 µs for
each in place of 15.5.) Larger trees wait for memory, and so even.py keeps leaves in an eighth of it, if their pairs have the
same sizes. With 800,000 keys just after opening, a get takes 4.4 µs, later 2.1; plain, 15 and 14. Left out, because plain code is as fast or nearly so: writing a page's elements with strided arrays.

`tests/btree/test_btree_fast.py` and `test_btree_even.py` hold each to its plain form. METCD_PLAIN=1, or the option
plain=True, does without them.
"""

from typing import Final

from engines.btree.fast.decoding import decode
from engines.btree.fast.point_commits import PointCommits
from engines.btree.fast.reading import read_one, scan_tree
from engines.btree.fast.splicing import Splicing
from engines.btree.parts import Parts

__all__ = ["FAST"]

FAST: Final = Parts(
    read_one=read_one, scan_tree=scan_tree, tree_writer=Splicing, provisional=PointCommits, decode=decode
)
