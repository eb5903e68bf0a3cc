"""A well-made database file, and what can be wrong with one: a row for each way, of which check() must tell all but three.

Each mutation changes a page and takes its checksum away, as if another program had written it, so that it is the structure
that has to be noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.btree import BTreeStore
from engines.btree.meta import NO_FREELIST, Meta, MetaError
from engines.btree.page import BRANCH, LEAF, branch_body, leaf_body, read_branch, read_leaf

__all__ = ["BBOLT_VERSIONS", "LEGAL", "MUTATIONS", "Layout", "make_database", "numbers_of"]

PAGE = 4096
_header = struct.Struct("<QHHI")
_leaf_element = struct.Struct("<IIII")


class Layout:
    """A file's bytes, and where its parts are."""

    def __init__(self, content: bytes) -> None:
        self.data = bytearray(content)
        metas: list[tuple[Meta, int]] = []
        for page in (0, 1):
            try:
                metas.append((Meta.decode(content[page * PAGE :]), page))
            except MetaError:
                continue
        self.meta, self.meta_page = max(metas)
        (_, value), *_ = zip(*self.leaf(self.meta.root))
        self.root = struct.unpack_from("<Q", value)[0]
        assert self.flags(self.root) == BRANCH, "the tree has two levels"
        self.children = list(self.branch(self.root)[1])
        assert all(self.flags(child) == LEAF for child in self.children)
        self.overflowing = next(child for child in self.children if self.overflow(child))

    def page(self, pgid: int) -> bytes:
        return bytes(self.data[pgid * PAGE : (pgid + 1 + self.overflow(pgid)) * PAGE])

    def flags(self, pgid: int) -> int:
        flags: int = _header.unpack_from(self.data, pgid * PAGE)[1]
        return flags

    def count(self, pgid: int) -> int:
        count: int = _header.unpack_from(self.data, pgid * PAGE)[2]
        return count

    def overflow(self, pgid: int) -> int:
        overflow: int = _header.unpack_from(self.data, pgid * PAGE)[3]
        return overflow

    def leaf(self, pgid: int) -> tuple[list[bytes], list[bytes]]:
        return read_leaf(self.page(pgid), self.count(pgid))[:2]

    def branch(self, pgid: int) -> tuple[list[bytes], list[int]]:
        keys, children, _, _ = read_branch(self.page(pgid), self.count(pgid))
        return keys, children

    def free(self) -> list[int]:
        start = self.meta.freelist * PAGE + 16
        return list(struct.unpack_from(f"<{self.count(self.meta.freelist)}Q", self.data, start))

    def clear_trailer(self, pgid: int) -> None:
        end = (pgid + 1 + self.overflow(pgid)) * PAGE
        self.data[end - 8 : end] = bytes(8)

    def set_header(self, pgid: int, **fields: int) -> None:
        names = ("id", "flags", "count", "overflow")
        self.clear_trailer(pgid)
        values = dict(zip(names, _header.unpack_from(self.data, pgid * PAGE))) | fields
        _header.pack_into(self.data, pgid * PAGE, *(values[name] for name in names))

    def set_body(self, pgid: int, count: int, body: bytes) -> None:
        self.set_header(pgid, count=count)
        start = pgid * PAGE
        self.data[start + 16 : start + PAGE] = body.ljust(PAGE - 16, b"\0")

    def set_leaf(self, pgid: int, keys: list[bytes], values: list[bytes]) -> None:
        self.set_body(pgid, len(keys), leaf_body(keys, values))

    def set_branch(self, pgid: int, keys: list[bytes], children: list[int]) -> None:
        self.set_body(pgid, len(keys), branch_body(keys, children))

    def set_free(self, ids: list[int]) -> None:
        self.set_body(self.meta.freelist, len(ids), struct.pack(f"<{len(ids)}Q", *ids))

    def set_meta(self, **fields: int) -> None:
        """Both metas, so that the change doesn't make one of them the older."""
        for page in (0, 1):
            meta = Meta.decode(bytes(self.data[page * PAGE : page * PAGE + 128]))
            self.data[page * PAGE : page * PAGE + 128] = meta._replace(**fields).encode().ljust(128, b"\0")  # type: ignore[arg-type]


def make_database(path: Path) -> Layout:
    """700 keys, one value on overflow pages, free pages, all in the bucket `metcd`; closed."""
    with BTreeStore(str(path), sync=False) as store:
        store.load((b"%04d" % number, b"v" * 80) for number in range(700))
        for number in range(4):
            store.put(b"%04d" % number, b"another", sync=True)
        store.put(b"0400", b"large" * 3000, sync=True)  # its run doesn't fit between the others, and lies at the end
        assert store.check() == []
    return Layout(path.read_bytes())


def _missing_free(file: Layout) -> None:
    file.set_free(file.free()[1:])


def _free_twice(file: Layout) -> None:
    file.set_free(sorted([*file.free(), file.free()[0]]))


def _live_and_free(file: Layout) -> None:
    file.set_free(sorted([*file.free(), file.children[3]]))


def _overflow_too_small(file: Layout) -> None:
    file.set_header(file.overflowing, overflow=file.overflow(file.overflowing) - 1)


def _high_water_too_low(file: Layout) -> None:
    assert file.overflowing - 1 > max(file.root, file.meta.root, file.meta.freelist)
    file.set_meta(high_water=file.overflowing - 1)  # one less than needed: bbolt 1.3.6 compares with >


def _high_water_too_high(file: Layout) -> None:
    assert len(file.data) >= (file.meta.high_water + 1) * PAGE
    file.set_meta(high_water=file.meta.high_water + 1)


def _wrong_id(file: Layout) -> None:
    file.set_header(file.children[2], id=file.children[3])


def _extra_flag(file: Layout) -> None:
    file.set_header(file.children[2], flags=LEAF | 0x08)


def _duplicate_key(file: Layout) -> None:
    keys, values = file.leaf(file.children[2])
    file.set_leaf(file.children[2], [*keys[:4], keys[3], *keys[5:]], values)


def _misordered_keys(file: Layout) -> None:
    keys, values = file.leaf(file.children[2])
    keys[4], keys[5] = keys[5], keys[4]
    file.set_leaf(file.children[2], keys, values)


def _separator_too_high(file: Layout) -> None:
    keys, children = file.branch(file.root)
    keys[2] += b"0"
    file.set_branch(file.root, keys, children)


def _separator_too_low(file: Layout) -> None:
    keys, children = file.branch(file.root)
    keys[2] = keys[2][:-1] + bytes((keys[2][-1] - 1,)) + b"9"
    file.set_branch(file.root, keys, children)


def _separator_of_no_bytes(file: Layout) -> None:
    keys, children = file.branch(file.root)
    file.set_branch(file.root, [b"", *keys[1:]], children)


def _data_outside(file: Layout) -> None:
    leaf = file.children[2]
    file.clear_trailer(leaf)
    at = leaf * PAGE + 16 + 3 * 16
    flags, _, key_size, value_size = _leaf_element.unpack_from(file.data, at)
    _leaf_element.pack_into(file.data, at, flags, PAGE, key_size, value_size)


def _unknown_child(file: Layout) -> None:
    keys, children = file.branch(file.root)
    file.set_branch(file.root, keys, [*children[:-1], file.meta.high_water + 5])


def _child_twice(file: Layout) -> None:
    keys, children = file.branch(file.root)
    file.set_branch(file.root, keys, [*children[:-1], children[0]])


def _one_child(file: Layout) -> None:
    keys, children = file.branch(file.root)
    file.set_branch(file.root, keys[:1], children[:1])
    file.set_free(sorted([*file.free(), *(page + i for page in children[1:] for i in range(file.overflow(page) + 1))]))


def _uneven_depth(file: Layout) -> None:
    keys, children = file.branch(file.root)
    new, first, second = file.free()[0], children[0], children[1]
    file.set_free(file.free()[1:])
    _header.pack_into(file.data, new * PAGE, new, BRANCH, 0, 0)
    file.set_branch(new, keys[:2], [first, second])
    file.set_branch(file.root, [keys[0], *keys[2:]], [new, *children[2:]])


def _short_bucket(file: Layout) -> None:
    file.set_body(file.meta.root, 1, struct.pack("<IIII", 1, 16, 5, 9) + b"metcd" + bytes(9))


def _meta_damaged(file: Layout) -> None:
    file.data[(1 - file.meta_page) * PAGE + 40] ^= 1


def _meta_misplaced(file: Layout) -> None:
    for page in (0, 1):
        meta = Meta.decode(bytes(file.data[page * PAGE : page * PAGE + 128]))
        moved = meta._replace(txid=meta.txid + 1, root=file.meta.root if page == file.meta_page else file.root).encode()
        file.data[page * PAGE : page * PAGE + 80] = _header.pack(page, 4, 0, 0) + moved[16:80]


def _meta_of_another_page(file: Layout) -> None:
    _header.pack_into(file.data, PAGE, 7, 4, 0, 0)


def _file_too_short(file: Layout) -> None:
    del file.data[(file.meta.high_water - 1) * PAGE :]


def _value_flipped(file: Layout) -> None:
    file.data[file.children[2] * PAGE + 3000] ^= 4  # its checksum stays


def _freelist_unsorted(file: Layout) -> None:
    file.set_free(file.free()[::-1])


def _no_freelist(file: Layout) -> None:
    file.set_meta(freelist=NO_FREELIST)


def _empty_leaf(file: Layout) -> None:
    file.set_leaf(file.children[2], [], [])


# The versions of bbolt whose checks were tried; FORMAT.md has the table for people, and a test holds the two equal.
BBOLT_VERSIONS = ("1.3.6", "1.3.10", "1.4.3", "1.5.0")
ALWAYS = ("yes", "yes", "yes", "yes")
LATER = ("no", "yes", "yes", "yes")
NEVER = ("no", "no", "no", "no")
NOT_ASKED = ("not asked",) * 4  # bbolt isn't given such a file
NOT_ASKED_OR_TRIED = ("not asked", "?", "?", "?")


@dataclass(frozen=True)
class Mutation:
    """What is done to the file, and whether the check of each of BBOLT_VERSIONS tells it: "yes" (a panic is one), "no"."""

    damage: Callable[[Layout], None]
    told: tuple[str, ...]

    def told_by(self, version: str) -> str:
        """What the column of this version says, else that of the one before it."""
        tried = [each for each in BBOLT_VERSIONS if numbers_of(each) <= numbers_of(version)]
        return self.told[max(len(tried), 1) - 1]


def numbers_of(version: str) -> list[int]:
    """A version as numbers, to be compared."""
    return [int(part) for part in version.split(".")]


MUTATIONS = {
    "a free page is missing from the freelist": Mutation(_missing_free, ALWAYS),
    "a page is in the freelist twice": Mutation(_free_twice, ALWAYS),
    "a live page is in the freelist": Mutation(_live_and_free, ALWAYS),
    "overflow is too small": Mutation(_overflow_too_small, ALWAYS),
    "the high-water mark is too low": Mutation(_high_water_too_low, ALWAYS),
    "the high-water mark is too high": Mutation(_high_water_too_high, ALWAYS),
    "a page has another page's id": Mutation(_wrong_id, ALWAYS),
    "a page has an extra flag": Mutation(_extra_flag, LATER),
    "a key is there twice": Mutation(_duplicate_key, LATER),
    "keys are out of order": Mutation(_misordered_keys, LATER),
    "a separator lies above its child's first key": Mutation(_separator_too_high, LATER),
    "a separator lies below its child's first key": Mutation(_separator_too_low, NEVER),
    "a separator has no bytes": Mutation(_separator_of_no_bytes, NEVER),
    "data lies outside of its page": Mutation(_data_outside, LATER),
    "a child does not exist": Mutation(_unknown_child, NOT_ASKED_OR_TRIED),
    "a child has two parents": Mutation(_child_twice, ALWAYS),
    "a branch has one child": Mutation(_one_child, NEVER),
    "leaves lie at several depths": Mutation(_uneven_depth, NEVER),
    "a bucket's value is too short": Mutation(_short_bucket, NOT_ASKED_OR_TRIED),
    "a meta is damaged": Mutation(_meta_damaged, NEVER),
    "the newest meta lies in the wrong page, and is the only one of its state": Mutation(_meta_misplaced, NEVER),
    "a meta page says that it is another page": Mutation(_meta_of_another_page, LATER),
    "the file is shorter than its high-water mark": Mutation(_file_too_short, NOT_ASKED),
    "a byte of a value is flipped": Mutation(_value_flipped, NEVER),
}
LEGAL = {
    "the freelist is unsorted": _freelist_unsorted,
    "there is no freelist": _no_freelist,
    "a leaf below a branch is empty": _empty_leaf,
}
