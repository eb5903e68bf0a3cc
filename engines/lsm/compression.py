"""Compressions of blocks: what the byte after a block means, who writes it, and what reads and writes it here.

    byte  name     written by                                          read with           written with
    0     none     every program
    1     snappy   LevelDB, goleveldb, Chromium                        snappy.py           cramjam
    2     zlib     Mojang's LevelDB: Minecraft's older worlds          zlib                zlib
    2     zstd     LevelDB's main branch, from 2023 on                 compression.zstd    compression.zstd
    4     deflate  Mojang's LevelDB since: zlib without its header     zlib                zlib

Two programs have given 2 a meaning. The block's first bytes tell which: a zstd frame begins with 28 b5 2f fd, and a zlib
stream with two bytes that are a multiple of 31 as one number, which 28 b5 is not.

1. A few bytes can stand for very many. What comes out is bounded by `LEAST_LIMIT`, or by 64 times what goes in if that
   is more; beyond that, the bytes are refused before the memory is taken.
2. compression.zstd came with Python 3.14; before, the package backports.zstd is the same.
3. "keep", the default of the store's option `compression`: what is written has the compression of what it replaces. A
   compaction writes with that of its inputs, the deepest first; a flush with that of the deepest level. It is looked
   at in a few blocks of a table, because a block that would hardly shrink is stored as it is. Without the package, it
   is written uncompressed, and `describe()` says so.

Left out: the levels of compression, which are the libraries' defaults (zstd: 1, as LevelDB's). Follows LevelDB's
include/leveldb/options.h, and Mojang's leveldb-mcpe.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, Final

from engines.coding import DecodeError
from engines.lsm import snappy

__all__ = ["PACKAGES", "RAW", "UnknownCompression", "can_write", "compress", "decompress", "name_of"]

RAW: Final = 0
SNAPPY: Final = 1
ZLIB_OR_ZSTD: Final = 2
DEFLATE: Final = 4
ZSTD_MAGIC: Final = bytes.fromhex("28b52ffd")
NO_HEADER: Final = -zlib.MAX_WBITS  # zlib's way to say: raw deflate
LEAST_LIMIT: Final = 1 << 28  # bytes that any block may become
RATIO: Final = 64
ZSTD_LEVEL: Final = 1
PACKAGES: Final = {"snappy": "cramjam", "zstd": "backports.zstd"}  # that write it
KINDS: Final = {"snappy": SNAPPY, "zlib": ZLIB_OR_ZSTD, "zstd": ZLIB_OR_ZSTD, "deflate": DEFLATE}


class UnknownCompression(Exception):
    """A sound block that can't be read here; the message follows on "the block at byte N"."""


def _zstd() -> Any:
    """The module, with the standard library's names; None without it."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def name_of(kind: int, begin: bytes) -> str | None:
    """The compression of a block that is followed by `kind` and begins with the bytes; None: it has none, or an unknown one."""
    if kind == ZLIB_OR_ZSTD:
        return "zstd" if begin[:4] == ZSTD_MAGIC else "zlib"
    return {SNAPPY: "snappy", DEFLATE: "deflate"}.get(kind)


def can_write(name: str) -> bool:
    """True if this compression can be written: its library is there."""
    if name == "snappy":
        return snappy.can_compress()
    return name != "zstd" or _zstd() is not None


def compress(data: bytes, name: str) -> tuple[bytes, int]:
    """(compressed bytes, the byte that follows them). Requires: `can_write(name)`."""
    if name == "snappy":
        made = snappy.compress(data)
    elif name == "zstd":
        made = _zstd().compress(data, ZSTD_LEVEL)
    else:
        compressor = zlib.compressobj(wbits=NO_HEADER if name == "deflate" else zlib.MAX_WBITS)
        made = compressor.compress(data) + compressor.flush()
    return made, KINDS[name]


def decompress(kind: int, data: bytes) -> bytes:
    """The bytes that were compressed. Raises DecodeError if they can't be; UnknownCompression. O(bytes)."""
    name = name_of(kind, data)
    if name == "snappy":
        return snappy.decompress(data)
    if name == "deflate":
        return _inflate(data, zlib.decompressobj(NO_HEADER), zlib.error)
    if name == "zlib":
        return _inflate(data, zlib.decompressobj(), zlib.error)
    if name == "zstd":
        if (zstd := _zstd()) is None:
            raise UnknownCompression(
                f"is compressed with zstd, for which Python 3.14 or the package {PACKAGES['zstd']} is needed: "
                f"pip install {PACKAGES['zstd']}"
            )
        return _inflate(data, zstd.ZstdDecompressor(), zstd.ZstdError)
    raise UnknownCompression(
        f"has the compression {kind}, and 0 (none), 1 (snappy), 2 (zlib or zstd) and 4 (deflate) are known here: open "
        "the store with the program that made it"
    )


def _inflate(data: bytes, decompressor: Any, failure: type[Exception]) -> bytes:
    """Rule 1, and all of the stream."""
    limit = max(LEAST_LIMIT, RATIO * len(data))
    try:
        made: bytes = decompressor.decompress(data, limit + 1)
    except failure as error:
        raise DecodeError(str(error)) from error
    if len(made) > limit:
        raise DecodeError(f"{len(data)} bytes become more than {limit:,}, the most that is allowed")
    if not decompressor.eof:
        raise DecodeError(f"the compressed stream goes on after the {len(data)} bytes that are there")
    return made
