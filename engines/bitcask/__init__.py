"""The Bitcask engine, in Riak's own format: `engines.bitcask.store` has the essay, FORMAT.md the bytes."""

from engines.bitcask.store import BitcaskStore

__all__ = ["BitcaskStore"]
