"""What a store of this engine can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from engines.kvstore import MAX_KEY_BYTES
from engines.options import Bounds, EngineOptions

__all__ = ["DEFAULT_BUCKET", "Options"]

DEFAULT_BUCKET = b"metcd"  # not `key`: etcd's tools take a bucket of that name for etcd's own
PAGE_SIZES = [1 << n for n in range(10, 17)]


@dataclass(frozen=True, kw_only=True)
class Options(EngineOptions):
    """Those of every engine, and:

    bucket          the name of the bucket at the top of the file that holds the keys; made by the first write, in another
                    program's file only under a name that is said. None: no bucket, to look at all of such a file with
                    read_only=True
    page_size       of a new file, in bytes: a power of two from 1,024 to 65,536. An existing file has its own
    fill_percent    how full a page is left by a split in the middle of the keys; bbolt's default is 0.5.
                    Ascending keys fill pages whatever it is
    max_size        bytes that the file may have; a write that needs more raises StoreFull and changes nothing. `flush` and
                    `close` need none
    cache_bytes     of memory for decoded nodes; a leaf of 4,096 bytes, two thirds full of pairs of 16 + 100, takes 4,900
    """

    engine: ClassVar[str] = "btree"

    bucket: Annotated[bytes, Bounds(least=1, most=MAX_KEY_BYTES)] | None = DEFAULT_BUCKET
    page_size: int = 4096
    fill_percent: Annotated[float, Bounds(least=0.1, most=1.0)] = 0.5
    max_size: int | None = None
    cache_bytes: Annotated[int, Bounds(least=0)] = 64 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bucket is None and not self.read_only:
            raise self.refusal("bucket", "the name of one, unless read_only is True", None)
        if self.page_size not in PAGE_SIZES:
            raise self.refusal("page_size", "a power of two from 1,024 to 65,536", self.page_size)
