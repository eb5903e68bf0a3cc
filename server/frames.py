"""The bytes of a stream between two nodes: frames, each with as many messages as had gathered.

    frame    0  4  size of the payload
             4  4  crc32c of the payload
             8  …  payload: for each message 4 bytes of size and the message (raft/raftpb.py)

Integers are little-endian and unsigned. A frame that fails its checksum, doesn't decode, or says what its sender can't
have meant is a DecodeError, which ends its connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from crc32c import crc32c

from raft.raftpb import MSG_PROP, MSG_READ_INDEX, MSG_SNAP, DecodeError, Message

__all__ = ["FRAME_BYTES_MAX", "FRAME_MESSAGES_MAX", "decode_frame", "encode_frame", "read_frame"]

FRAME_BYTES_MAX = 64 << 20  # a receiver refuses more; MsgApp is limited to far less by the Raft configuration
FRAME_MESSAGES_MAX = 1024

FORWARDED = (MSG_PROP, MSG_READ_INDEX)  # these keep the name of the node that asked first

_FRAME = struct.Struct("<II")
_SIZE = struct.Struct("<I")


def encode_frame(messages: list[Message]) -> bytes:
    """The frame that holds these messages, in their order. O(bytes)."""
    parts = [b""]
    for message in messages:
        encoded = message.encode()
        parts.append(_SIZE.pack(len(encoded)))
        parts.append(encoded)
    payload = b"".join(parts)
    return _FRAME.pack(len(payload), crc32c(payload)) + payload


def read_frame(read: Callable[[int], bytes], sender: int) -> list[Message] | None:
    """The messages of the next frame from node `sender`; None at the end of the stream, in the middle of a frame too.

    read(n) returns n bytes, fewer only at the end. Raises DecodeError, and what `read` raises. O(bytes).
    """
    header = read(_FRAME.size)
    if len(header) < _FRAME.size:
        return None
    size, checksum = _FRAME.unpack(header)
    if size > FRAME_BYTES_MAX:
        raise DecodeError(f"a frame has at most {FRAME_BYTES_MAX} bytes, and this one says {size}")
    payload = read(size)
    return None if len(payload) < size else decode_frame(payload, checksum, sender)


def decode_frame(payload: bytes, checksum: int, sender: int) -> list[Message]:
    """The messages of a frame. Raises DecodeError for anything that `sender` can't have meant."""
    if crc32c(payload) != checksum:
        raise DecodeError("a frame fails its checksum")
    messages = []
    at = 0
    while at < len(payload):
        if len(payload) - at < _SIZE.size:
            raise DecodeError(f"a message's size has {_SIZE.size} bytes, and {len(payload) - at} are left")
        (size,) = _SIZE.unpack_from(payload, at)
        at += _SIZE.size
        if size > len(payload) - at:
            raise DecodeError(f"a message of {size} bytes begins {len(payload) - at} bytes before its frame ends")
        message = Message.decode(payload[at : at + size])
        if message.from_ != sender and message.type not in FORWARDED:
            raise DecodeError(f"a message says it is from node {message.from_}")
        if message.type == MSG_SNAP:
            raise DecodeError("a snapshot's message comes with its file, and not in a frame")
        messages.append(message)
        at += size
    return messages
