"""Our LSM store with plyvel's API, so that plyvel's own tests can be run on it. Only for these tests.

    errors          plyvel's errors, and ours told as them
    arguments       bytes, and options that have other names here
    batch           WriteBatch ── a WriteBatch of ours
    cursor          a place in the store from which to go either way
    iterator        Iterator: stands between two pairs
    raw_iterator    RawIterator: stands on a pair
    snapshot        Snapshot ── a Snapshot of ours
    database        DB ── LsmStore, and PrefixedDB
    directory       repair_db, destroy_db

Where LevelDB and we differ: keys are ordered as bytes and in no other way (so a store that another comparator ordered is
refused), and have 1 to 32,768 bytes.
"""

from tests.interop.plyvel_adapter.database import DB
from tests.interop.plyvel_adapter.directory import destroy_db, repair_db
from tests.interop.plyvel_adapter.errors import CorruptionError, Error, IOError, IteratorInvalidError

__all__ = [
    "DB",
    "CorruptionError",
    "Error",
    "IOError",
    "IteratorInvalidError",
    "destroy_db",
    "repair_db",
]

__leveldb_version__ = "1.23"  # the version whose format ours is
__version__ = "1.5.1"  # of plyvel, whose API this is
