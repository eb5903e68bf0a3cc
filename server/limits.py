"""The limits of what clients may send, in one place; README has the same table.

    what                     limit                        beyond it
    a key                    1 to 32,767 bytes            400, in a path and in a batch alike
    a body                   1.5 MiB                      413, before it is read
    operations of a batch    as many as its body holds
    a request line           296 KiB                      431
    a header field           8 KiB                        431
    the fields together      64 KiB, and 64 of them       431

The request line follows from the key: percent-encoded, a key has up to three times its bytes, and a scan may name three
of them (start, stop and prefix). So whatever key a batch can write, a path can read and delete, and a scan can begin at.
"""

from __future__ import annotations

__all__ = [
    "BODY_BYTES_MAX",
    "FIELDS_BYTES_MAX",
    "FIELDS_MAX",
    "FIELD_BYTES_MAX",
    "KEY_BYTES_MAX",
    "REQUEST_LINE_BYTES_MAX",
]

KEY_BYTES_MAX = 32_767  # the engines' limit less the byte of the state machine's prefix
BODY_BYTES_MAX = 3 << 19  # 1.5 MiB, as etcd's
REQUEST_LINE_BYTES_MAX = 296 << 10  # 3 keys of 3 * 32,767 bytes are 288 KiB; the rest is for the names around them
FIELD_BYTES_MAX = 8 << 10
FIELDS_BYTES_MAX = 64 << 10
FIELDS_MAX = 64
