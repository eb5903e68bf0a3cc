"""The LSM engine, in LevelDB's own format: `engines.lsm.store` has the essay, FORMAT.md the bytes, LEVELDB.md the
differences.
"""

from engines.lsm.store import LsmStore

__all__ = ["LsmStore"]
