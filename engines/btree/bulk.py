"""Bulk loading: a tree from a sorted stream, bottom-up, each page written once and full.

    pairs -> [leaf][leaf][leaf][leaf]...      written as they fill up
               key,id  key,id  key,id   ->  [branch][branch]...       one more level, filled by the one below
                                              key,id  key,id    ->  [root]

Each level keeps its last few pages' worth in memory, so that its last node can be given enough keys; a stream of any
length takes O(height) memory, and writes n pages for n pages' worth of data. Requires: keys ascend strictly.

The pages are taken like those of any other transaction, from the freelist and the end of the file, and become reachable
only by the commit: a stream that fails half-way has written to free pages, and nothing else.

Follows no file of bbolt's: its Compact puts key by key, with a fill percent of 90.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engines.btree.cursor import leaves_forward
from engines.btree.node import Node
from engines.btree.page import ELEMENT_BYTES, HEADER_BYTES, BucketValue
from engines.btree.pager import Pager
from engines.btree.tree import TreeWriter, bucket_in_the_way
from engines.btree.walk import bucket_header, runs_of_trees
from engines.kvstore import KVStore, Pair, check_value
from engines.pairs import ascending

__all__ = ["StreamFailed", "build_tree", "copy_tree", "replace_tree"]

FILL = 1.0
BUFFERED_PAGES = 8  # that a level collects before it is cut into nodes


class StreamFailed(Exception):
    """What a caller's pairs have raised, on its way through the committer: `__cause__` is it."""


class _Level:
    """The nodes of one height: collects children, writes branches, and hands their ids to the level above."""

    def __init__(self, writer: TreeWriter) -> None:
        self._writer = writer
        self._keys: list[bytes] = []
        self._children: list[int] = []
        self._size = 0
        self._above: _Level | None = None

    def add(self, key: bytes, pgid: int) -> None:
        self._keys.append(key)
        self._children.append(pgid)
        self._size += ELEMENT_BYTES + len(key)
        if self._size > BUFFERED_PAGES * self._writer.pager.page_bytes:
            pieces = self._pieces()
            rest = pieces.pop()
            self._pass_up(pieces)
            self._keys, self._children, self._size = rest.keys, list(rest.children), rest.size_bytes - HEADER_BYTES

    def _pieces(self) -> list[Node]:
        return Node.branch(self._keys, self._children).split(self._writer.pager.page_bytes, FILL)

    def _pass_up(self, pieces: list[Node]) -> None:
        if self._above is None:
            self._above = _Level(self._writer)
        for piece in pieces:
            self._above.add(piece.keys[0], self._writer.write(piece))

    def finish(self) -> int:
        """The id of the root, which this level or one above it has."""
        if self._above is None and len(self._children) == 1:
            return self._children[0]
        pieces = self._pieces()
        if self._above is None and len(pieces) == 1:
            return self._writer.write(pieces[0])
        self._pass_up(pieces)
        assert self._above is not None
        return self._above.finish()


def build_tree(writer: TreeWriter, pairs: Iterable[Pair]) -> int:
    """Writes the pairs as a tree, and returns its root's page id. Whatever `pairs` raises comes out unchanged."""
    page_bytes = writer.pager.page_bytes
    level = _Level(writer)
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    for key, value in pairs:
        keys.append(key)
        values.append(value)
        size += ELEMENT_BYTES + len(key) + len(value)
        if size > BUFFERED_PAGES * page_bytes:
            *pieces, rest = Node.leaf(keys, values).split(page_bytes, FILL)
            for piece in pieces:
                level.add(piece.keys[0], writer.write(piece, cache=False))
            keys, values, size = rest.keys, rest.values, rest.size_bytes - HEADER_BYTES
    if not keys:
        return writer.write(Node.leaf([], [])) if not level._children else level.finish()
    for piece in Node.leaf(keys, values).split(page_bytes, FILL):
        level.add(piece.keys[0], writer.write(piece, cache=False))
    return level.finish()


def replace_tree(writer: TreeWriter, old: int, pairs: Iterable[Pair]) -> int:
    """Writes a caller's pairs as a tree that takes the place of the one at page `old` (0: none); its root's page id.

    The buckets in the old tree are another program's: they are taken over, as `put` and `delete` leave them alone. Raises
    StreamFailed, whose cause is what the pairs have raised or what is wrong with them.
    """
    buckets: list[Pair] = []
    for pgid, pages, leaf in runs_of_trees(writer.pager, [old] if old else []):
        writer.drop(pgid, pages, 0)
        if leaf is not None:
            buckets += [pair for pair in zip(leaf.keys, leaf.values) if type(pair[1]) is BucketValue]
    return build_tree(writer, _with_buckets(pairs, sorted(buckets)))


def _with_buckets(pairs: Iterable[Pair], buckets: list[Pair]) -> Iterator[Pair]:
    """Passes valid pairs on, and buckets in their places among them.

    Raises StreamFailed for what `pairs` raises, for a key that isn't above the one before, or that is a bucket's.
    """
    waiting = buckets[::-1]
    try:
        for key, value in ascending(pairs, _check_value):
            while waiting and waiting[-1][0] <= key:
                if waiting[-1][0] == key:
                    raise bucket_in_the_way(key)
                yield waiting.pop()
            yield key, value
    except GeneratorExit:
        raise
    except BaseException as failure:
        raise StreamFailed from failure
    yield from reversed(waiting)


def _check_value(value: object) -> None:
    check_value(value, KVStore.max_value_bytes)


def copy_tree(source: Pager, root: int, writer: TreeWriter) -> int:
    """Writes the tree at page `root` of another file again, with all buckets below it; the new root's page id."""
    return build_tree(writer, _copied_pairs(source, root, writer))


def _copied_pairs(source: Pager, root: int, writer: TreeWriter) -> Iterator[Pair]:
    for leaf in leaves_forward(source, source.load(root), b""):
        if not leaf.has_buckets:
            yield from zip(leaf.keys, leaf.values)
            continue
        for key, value in zip(leaf.keys, leaf.values):
            if type(value) is BucketValue:
                child, sequence = bucket_header.unpack_from(value)
                if child:
                    value = BucketValue(bucket_header.pack(copy_tree(source, child, writer), sequence))
            yield key, value
