"""A read of a value that takes a record apart in two steps of C. In place of Core.read.

    record      crc │ timestamp, key size, value size │ key │ value
    _BODY       ──┬─│────────────────┬───────────────────────────      unpacked from the mapping
    _FIELDS                timestamp, key size, ... │ key │ value      unpacked from the body, whose checksum is crc

The two are structs of one size each, and most records of a store have one of few: they are kept in a table.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any
from zlib import crc32

from engines.bitcask.core import Core
from engines.bitcask.log import Log
from engines.bitcask.options import Options
from engines.bitcask.place import FILE_SHIFT, OFFSET_MASK, SIZE_BITS, SIZE_MASK, Place
from engines.bitcask.record import HEADER_BYTES
from engines.bitcask.segment import SegmentTable
from engines.env import Env

__all__ = ["SHAPES", "FastCore", "Shape"]

Unpack = Callable[..., tuple[Any, ...]]
Shape = tuple[Unpack, Unpack]  # (crc, body) from a mapping, and (key size, key, value) from a body

SHAPES = 1024  # are kept at most, each some 400 bytes


class FastCore(Core):
    """Stands in for Core. Several threads may read: what one of them does to the table of shapes the others survive."""

    def __init__(self, env: Env, options: Options, table: SegmentTable, log: type[Log]) -> None:
        super().__init__(env, options, table, log)
        self.shapes: dict[int, Shape] = {}  # by the sizes of the record and its key

    def read(self, key: bytes, place: Place) -> bytes:
        """Stands in for Core.read, and verifies the same: a get 0.91 µs -> 0.56 µs.

        Whatever is wrong with a record, Core.read says: it reads it once more.
        """
        size = place & SIZE_MASK
        try:
            body_of, fields_of = self.shapes[size << 16 | len(key)]
            crc, body = body_of(self.table.views[place >> FILE_SHIFT], place >> SIZE_BITS & OFFSET_MASK)
            key_size, found, value = fields_of(body, 4)
        except (
            KeyError,
            TypeError,
            StructError,
        ):  # a shape or a file that is new, a view that is no mapping, a cut file
            self.learn(size, len(key))
            return super().read(key, place)
        if crc32(body) != crc or found != key or key_size != len(key):
            return super().read(key, place)
        self.bytes_read += size
        return value  # type: ignore[no-any-return]

    def learn(self, size: int, key_size: int) -> None:
        """From now on records of these sizes are read so, if they can be: another program's files aren't mapped."""
        value_size = size - HEADER_BYTES - key_size
        if value_size >= 0 and not self.options.read_only and size << 16 | key_size not in self.shapes:
            if len(self.shapes) >= SHAPES:
                self.shapes.clear()
            body, fields = Struct(f">I{size - 4}s"), Struct(f">H4x{key_size}s{value_size}s")
            self.shapes[size << 16 | key_size] = body.unpack_from, fields.unpack_from
