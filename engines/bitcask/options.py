"""What a store of this engine can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from engines.errors import InvalidOption
from engines.options import Bounds, EngineOptions

__all__ = ["MAX_FILE_SIZE", "MergeWhen", "Options"]

MergeWhen = Literal["inline", "thread", "manual"]

MAX_FILE_SIZE = 64 << 20
GARBAGE_SHARE = 0.6  # Riak's frag_merge_trigger
DEAD_BYTES = 512 << 20  # Riak's dead_bytes_merge_trigger


@dataclass(frozen=True, kw_only=True)
class Options(EngineOptions):
    """Those of every engine, and:

    max_file_size    bytes after which a segment is closed; one larger record has a segment of its own
    max_open_files   mappings, and so file descriptors, that are kept open for reading
    merge            "inline": a write that fills a segment runs a merge if one is worth while; "thread": it starts one
                     in the background; "manual": only `merge()` and `compact()` do
    garbage_share    what part of the oldest segments has to be garbage for a merge to be worth while
    dead_bytes       or how many bytes of it
    repair           before opening, leaves out what is damaged, as `BitcaskStore.repair` does; what it did is logged
    """

    engine: ClassVar[str] = "bitcask"

    max_file_size: Annotated[int, Bounds(least=64, most=(1 << 40) - 1)] = MAX_FILE_SIZE
    max_open_files: Annotated[int, Bounds(least=1)] = 128
    merge: MergeWhen = "inline"
    garbage_share: Annotated[float, Bounds(above=0, most=1)] = GARBAGE_SHARE
    dead_bytes: Annotated[int, Bounds(least=1)] = DEAD_BYTES
    repair: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repair and self.read_only:
            raise InvalidOption(
                "the engine 'bitcask' can't repair a store that it opens for reading only: take one of both"
            )
