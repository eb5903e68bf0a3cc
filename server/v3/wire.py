"""Protobuf's bytes for the messages of server/v3/rpc.py, as everybody calls it: `encode(message)` and `decode(cls, data)`.

server/v3/plain_wire.py has the rules. server/v3/fast_wire.py decodes the same faster (equal by test), and asks the plain form
whenever it is in doubt; METCD_PLAIN=1 leaves it out.
"""

from __future__ import annotations

from engines.coding import DecodeError
from engines.env import plain_everywhere
from server.v3.fast_wire import decode_fast
from server.v3.plain_wire import decode_plain, encode_plain

__all__ = ["DecodeError", "decode", "encode"]

decode = decode_plain if plain_everywhere() else decode_fast
encode = encode_plain
