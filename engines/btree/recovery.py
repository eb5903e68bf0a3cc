"""Opening: making a new file, choosing the meta that counts, and reading what it refers to.

A new file has four pages, as bbolt's: two metas (txid 0 and 1), an empty freelist, an empty leaf for the root bucket. It
is written under another name, synced, and renamed, so that no crash leaves half of one: bbolt writes it in place, and has
been found unable to open what remained (bbolt issue 567, etcd issue 16596).

    path.new      the file that is being made, locked; a leftover of a crash is overwritten
    path.compact  the copy that compaction is making (store.py); a leftover is removed

Choosing a meta:

1. Both are decoded; a damaged one doesn't count. None left: CorruptionError, or ForeignFormat if they have no checksums.
2. The one with the higher txid is the newest; of two equal ones (`bbolt surgery revert-meta-page` leaves such), the one
   in its own page. If it is *provisional* and not all of its pages are there (provisional.py), the other one counts.
3. The file must be as long as the meta says, before anything is mapped: to touch a mapping beyond the end of its file is
   SIGBUS, which nobody can catch.

Then the file and its directory are synced. After a kill the newest meta may be in the page cache only, and the next commits
write to pages that the one before it still needs; and so may the file's name, if it has just been made or compacted. If
there was a provisional meta, the one that counts is written over the other under the next txid, and synced, before
anything else: what was rejected must never come back, and what was accepted must no longer need its base to be believed.

Follows bbolt's db.go (Open, init, mmap, meta). Left out: NoFreelistSync as an option; such files are read.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from engines.btree.commit import Committer
from engines.btree.current import Current, State
from engines.btree.cursor import leaves_forward, lookup
from engines.btree.freelist import freelist_body
from engines.btree.meta import MAGIC, META_AREA_BYTES, Meta, MetaError, NoChecksum, newest_first, read_meta
from engines.btree.node import EMPTY, Node
from engines.btree.options import DEFAULT_BUCKET, Options
from engines.btree.page import FREELIST, HEADER_BYTES, LEAF, BucketValue, leaf_body, with_trailer
from engines.btree.pager import Pager
from engines.btree.parts import Parts
from engines.btree.provisional import is_provisional, is_whole, restore_torn
from engines.btree.walk import bucket_header, bucket_root, free_ids
from engines.env import Env, File, Lock
from engines.errors import CorruptionError, ForeignFormat, NoSuchStore
from engines.kvstore import Stats

__all__ = ["committer_of", "create", "has_magic", "open_database", "parent_of", "read_metas", "recover", "state_of"]

NAMES_SHOWN = 12  # of a foreign file's buckets


def parent_of(path: str) -> str:
    """The directory that a path's last name is in."""
    return path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")


# ------------------------------------------------------------------------------------------------------------ creation


def create(env: Env, path: str, page_bytes: int) -> Lock | None:
    """Makes an empty database at `path`, and returns its lock; None if somebody else has just made one.

    Raises StoreLocked if somebody is making one, OSError.
    """
    parent = parent_of(path)
    env.makedirs(parent, "btree.create.mkdir")
    temporary = path + ".new"
    lock = env.lock(temporary, "flock")
    try:
        if env.exists(path):
            env.unlink(temporary)
            lock.close()
            return None
        file = env.open(temporary, "w")
        try:
            file.append(empty_file(page_bytes))
            file.sync("btree.create.file")
        finally:
            file.close()
        env.rename(temporary, path)  # made durable by the opening that follows
    except BaseException:
        lock.close()
        raise
    return lock


def empty_file(page_bytes: int) -> bytes:
    """The four pages of a database without buckets."""
    metas = [Meta(page_bytes, 3, 2, 4, txid).encode_page() for txid in (0, 1)]
    count, body = freelist_body(array("Q"))
    freelist, _ = with_trailer(2, FREELIST, count, body, 1, page_bytes)
    root, _ = with_trailer(3, LEAF, 0, leaf_body([], []), 1, page_bytes)
    return b"".join((*metas, freelist, root))


# ------------------------------------------------------------------------------------------------------------- opening


def open_database(
    env: Env, path: str, options: Options, stats: Stats, parts: Parts
) -> tuple[Current, Committer | None]:
    """Opens or makes the database at `path`: its current state, and the writer's side unless it is for reading only.

    Through a symbolic link, so that compaction replaces the file and not the link. Raises StoreLocked, CorruptionError,
    ForeignFormat, NoSuchStore, OSError.
    """
    path = env.resolve(path)
    lock = None
    while lock is None:
        if env.exists(path):
            lock = env.lock(path, "flock", shared=options.read_only)
        elif options.read_only or not options.create:
            raise NoSuchStore.at(path)
        else:
            lock = create(env, path, options.page_size)
    file: File | None = None
    try:
        file = env.open(path, "r" if options.read_only else "r+")
        page_bytes, metas = read_metas(file, path)
        metas = restore_torn(file, page_bytes, metas)
        sizes = page_bytes, stats, options.cache_bytes, options.max_size
        pager = Pager(env, path, lock, *sizes, parts.cache, parts.decode)
        pager.attach(file, writable=not options.read_only)
        return _recovered(pager, metas, options, parts)
    except BaseException:
        if file is not None:
            file.close()
        lock.close()
        raise


def _recovered(
    pager: Pager, metas: list[Meta | MetaError], options: Options, parts: Parts
) -> tuple[Current, Committer | None]:
    meta, page, was_provisional = recover(pager, metas)
    if options.read_only:
        return Current(state_of(pager, meta, options)), None
    pager.sync("btree.open.file")
    if was_provisional:
        meta = meta._replace(txid=meta.txid + 1)
        page = meta.page
        pager.write_meta(meta)
        pager.sync("btree.open.meta")
    pager.stats.fsyncs += 1
    pager.env.sync_dir(parent_of(pager.path), "btree.open.name")
    current = Current(state_of(pager, meta, options))
    committer = committer_of(current, current.state, page, options, parts)
    leftover = pager.path + ".compact"
    if pager.env.exists(leftover):
        pager.env.unlink(leftover)
    return current, committer


def committer_of(current: Current, state: State, meta_page: int, options: Options, parts: Parts) -> Committer:
    """The writer's side of a file, whose meta was found in page `meta_page`. `state` is the current one, or is to be."""
    assert options.bucket is not None, "a store without a bucket is for reading only"
    freelist = parts.freelist(free_ids(state.pager, state.meta), state.meta.high_water)
    tree_writer = parts.tree_writer
    return Committer(current, state, freelist, options.bucket, meta_page, options.fill_percent, tree_writer)


def state_of(pager: Pager, meta: Meta, options: Options) -> State:
    """The state that a meta stands for. Raises CorruptionError, ForeignFormat."""
    top, bucket = pager.load(meta.root), options.bucket
    value = None if bucket is None else lookup(pager, top, bucket)
    if value is None:
        if options.read_only or bucket == DEFAULT_BUCKET:
            _refuse_if_foreign(pager, top, bucket)
        return State(pager, meta, 0, EMPTY, 0)
    if type(value) is not BucketValue or len(value) < bucket_header.size:
        raise pager.corrupt(meta.root, f"{bucket!r} should be a bucket, and is a value")
    root, sequence = bucket_header.unpack_from(value)
    return State(pager, meta, root, bucket_root(pager, value), sequence)


def _refuse_if_foreign(pager: Pager, top: Node, bucket: bytes | None) -> None:
    """Raises ForeignFormat if there are buckets in the file, but not the one asked for: it would seem to be empty."""
    names = [key for leaf in leaves_forward(pager, top, b"") for key in leaf.keys]
    if bucket is None or not names:
        return
    shown = ", ".join(map(repr, names[:NAMES_SHOWN])) + (
        f" and {len(names) - NAMES_SHOWN} more" * (len(names) > NAMES_SHOWN)
    )
    raise ForeignFormat(
        pager.path,
        f"a bolt file of another program, with no bucket {bucket!r} but with {shown}: "
        "name the one to open with the option bucket, or see them all with metcd dump",
    )


# --------------------------------------------------------------------------------------------------------------- metas


PROBED = [512 << i for i in range(16)]  # page sizes, if meta 0 doesn't tell: bbolt looks from 1,024 to 16 MiB
NO_CHECKSUMS = (
    "a bolt file without checksums: its metas have 0 in that place, as the package boltdb of PyPI writes them. "
    "bbolt reads such a file up to 1.3.6 only; make a copy with checksums: "
    "bolt compact -o NEW OLD (boltdb 1.3.1), or bbolt compact -o NEW OLD (up to 1.3.6)"
)


def has_magic(file: File) -> bool:
    """True if the file begins like a bolt database, or has a second meta where one may be."""
    return any(isinstance(meta, Meta) for meta in _found(file))


def _found(file: File) -> Iterator[Meta | MetaError]:
    """What begins like a meta at the places where bbolt looks for one: meta 0, or a meta 1 that lies where it says.

    A damaged meta 0 may still tell the page size.
    """
    for at in (0, _page_size_told(file.pread(META_AREA_BYTES, 0)), *PROBED):
        raw = file.pread(META_AREA_BYTES, at)
        if raw[HEADER_BYTES : HEADER_BYTES + 4] != MAGIC.to_bytes(4, "little"):
            continue
        if at in (0, _page_size_told(raw)):
            yield read_meta(file, at)


def _page_size_told(raw: bytes) -> int:
    return int.from_bytes(raw[HEADER_BYTES + 8 : HEADER_BYTES + 12], "little")


def read_metas(file: File, path: str) -> tuple[int, list[Meta | MetaError]]:
    """The page size, and for page 0 and page 1 the meta or what is wrong with it.

    Raises CorruptionError if neither is a meta, ForeignFormat if the newest one has no checksum: it is not damaged, and to
    take the other one, as bbolt does, would be to lose a commit without a word.
    """
    found = list(_found(file))
    for meta in found:
        if isinstance(meta, Meta):
            metas = [read_meta(file, page * meta.page_bytes) for page in (0, 1)]
            whole = max(each.txid for each in metas if isinstance(each, Meta))
            if any(isinstance(each, NoChecksum) and each.txid > whole for each in metas):
                raise ForeignFormat(path, NO_CHECKSUMS)
            return meta.page_bytes, metas
    if any(isinstance(meta, NoChecksum) for meta in found):
        raise ForeignFormat(path, NO_CHECKSUMS)
    if file.size() == 0:
        raise CorruptionError(path, None, "the file is empty: remove it, and a database can be made there")
    raise CorruptionError(path, 0, f"no bolt database, or both of its metas are damaged: {read_meta(file, 0)}")


def recover(pager: Pager, metas: list[Meta | MetaError]) -> tuple[Meta, int, bool]:
    """The meta that counts, the page it is in, and True if there was a provisional one, which counts or doesn't.

    Requires: the pager is attached. Raises CorruptionError.
    """
    found = newest_first(metas)
    was_provisional = len(found) == 2 and is_provisional(found[0][0], found[1][0])
    if was_provisional and not is_whole(pager, found[0][0], found[1][0]):
        pager.forget_all()
        del found[0]
    meta, page = found[0]
    if meta.high_water * meta.page_bytes > len(pager.map):
        raise CorruptionError(
            pager.path,
            len(pager.map),
            f"the file should have {meta.high_water} pages of {meta.page_bytes} bytes, and it ends here: "
            "restore it from a backup, or copy it again",
        )
    return meta, page, was_provisional
