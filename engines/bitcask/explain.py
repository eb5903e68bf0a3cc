"""What a get of one key touches: the keydir, and one record of one file.

    keydir                   140 bytes at byte 1,200 of segment 3
    3.bitcask.data, sealed   the record of 140 bytes was read, its checksum is right: a value

That is all there is to tell, and the point of the design: one lookup in memory and one read, wherever the key is and
whatever else the store holds. The paper's figure of a read (section 2) has the same two steps.
"""

from __future__ import annotations

from typing import Any

from engines.bitcask.core import Core
from engines.bitcask.place import Place, unpack
from engines.bitcask.segment import data_path
from engines.telling import explained, result_of

__all__ = ["explain"]


def explain(core: Core, key: bytes) -> dict[str, Any]:
    """The explanation of a get of `key` now. O(1), one read, verified; as `BitcaskStore.get`, and not counted as a hit.

    Raises CorruptionError, StoreChanged, OSError.
    """
    while (place := core.keydir.places.get(key)) is not None:
        try:
            value = core.read(key, place)
        except KeyError:  # a merge has moved the value and removed the file: the keydir has its new place
            core.check_usable()
            continue
        return explained("bitcask", key, value, _steps(core, place, value))
    keys = len(core.keydir.places)
    return explained("bitcask", key, None, [{"place": "keydir", "keys": keys, "result": "not here: nothing is read"}])


def _steps(core: Core, place: Place, value: bytes) -> list[dict[str, Any]]:
    file_id, offset, size = unpack(place)
    segment = core.table.live.get(file_id)
    active = core.log.active
    state = "retired" if segment is None else "active" if active is not None and active.id == file_id else "sealed"
    where = {"segment": file_id, "offset": offset, "record_bytes": size}
    return [
        {
            "place": "keydir",
            "keys": len(core.keydir.places),
            **where,
            "result": f"{size:,} bytes at byte {offset:,} of segment {file_id}",
        },
        {
            "place": "segment",
            "file": data_path(core.table.directory, file_id).rpartition("/")[2],
            "state": state,
            **where,
            "result": result_of(value),
        },
    ]
