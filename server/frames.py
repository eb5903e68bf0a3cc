"""The bytes of a stream between two nodes: frames, each with as many messages as had gathered.

    frame    0  4  size of the payload
             4  4  crc32c of the payload
             8  …  payload: 8 bytes, the milliseconds of the sender's clock when the frame was made;
                   then for each message 4 bytes of size and the message (raft/raftpb.py)

Integers are little-endian and unsigned. A frame that fails its checksum, doesn't decode, or says what its sender can't
have meant (server/guards.py) is a DecodeError, which ends its connection. Forwarded proposals change on the way: what is
left of their time goes over the wire, and not a moment of somebody's clock (server/forwards.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from crc32c import crc32c

from raft.raftpb import MSG_PROP, MSG_SNAP, DecodeError, Message
from server import guards
from server.forwards import TransitClock, from_wire, to_wire
from server.limits import FRAME_BYTES_MAX

__all__ = [
    "FRAME_BYTES_MAX",
    "FRAME_HEADER_BYTES",
    "FRAME_MESSAGES_MAX",
    "decode_frame",
    "encode_frame",
    "frame_header",
    "read_frame",
]

FRAME_MESSAGES_MAX = 1024

_FRAME = struct.Struct("<II")
FRAME_HEADER_BYTES = _FRAME.size
_SENT_AT = struct.Struct("<Q")
_SIZE = struct.Struct("<I")


def encode_frame(messages: list[Message], now: float) -> bytes:
    """The frame that holds these messages, in their order, made at `now`, seconds of this node's clock. O(bytes)."""
    parts = [_SENT_AT.pack(int(now * 1000))]
    for message in messages:
        encoded = (message if message.type != MSG_PROP else to_wire(message, now)).encode()
        parts.append(_SIZE.pack(len(encoded)))
        parts.append(encoded)
    payload = b"".join(parts)
    return _FRAME.pack(len(payload), crc32c(payload)) + payload


def read_frame(
    read: Callable[[int], bytes], sender: int, transit: TransitClock, clock: Callable[[], float]
) -> list[Message] | None:
    """The messages of the next frame from node `sender`; None at the end of the stream, in the middle of a frame too.

    read(n) returns n bytes, fewer only at the end. transit: of this stream. clock: this node's, in seconds. Raises
    DecodeError, and what `read` raises. O(bytes).
    """
    header = read(_FRAME.size)
    if len(header) < _FRAME.size:
        return None
    size, checksum = frame_header(header)
    payload = read(size)
    return None if len(payload) < size else decode_frame(payload, checksum, sender, transit, clock())


def frame_header(data: bytes | bytearray, at: int = 0) -> tuple[int, int]:
    """Size and checksum of the payload of the frame that begins at `at`. Raises DecodeError for a size beyond all limits."""
    size, checksum = _FRAME.unpack_from(data, at)
    if size > FRAME_BYTES_MAX:
        raise DecodeError(f"a frame has at most {FRAME_BYTES_MAX} bytes, and this one says {size}")
    return size, checksum


def decode_frame(payload: bytes, checksum: int, sender: int, transit: TransitClock, now: float) -> list[Message]:
    """The messages of a frame that was read at `now`. Raises DecodeError for anything that `sender` can't have meant."""
    if crc32c(payload) != checksum:
        raise DecodeError("a frame fails its checksum")
    if len(payload) <= _SENT_AT.size:
        raise DecodeError(f"a frame says in {_SENT_AT.size} bytes when it was made, and then has at least one message")
    late_s = transit.late_s(_SENT_AT.unpack_from(payload)[0] / 1000, now)
    messages = []
    at = _SENT_AT.size
    while at < len(payload):
        if len(payload) - at < _SIZE.size:
            raise DecodeError(f"a message's size has {_SIZE.size} bytes, and {len(payload) - at} are left")
        (size,) = _SIZE.unpack_from(payload, at)
        at += _SIZE.size
        if size > len(payload) - at:
            raise DecodeError(f"a message of {size} bytes begins {len(payload) - at} bytes before its frame ends")
        message = Message.decode(payload[at : at + size])
        guards.check(message, sender)
        if message.type == MSG_SNAP:
            raise DecodeError("a snapshot's message comes with its file, and not in a frame")
        messages.append(message if message.type != MSG_PROP else from_wire(message, now, late_s))
        at += size
    return messages
