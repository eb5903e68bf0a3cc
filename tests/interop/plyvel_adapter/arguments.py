"""What plyvel's calls are given: bytes, and options that have other names here."""

from __future__ import annotations

from typing import Any

from tests.interop.plyvel_adapter.errors import Error

__all__ = ["lsm_options", "only_bytes"]


def only_bytes(thing: object) -> bytes:
    """Keys, prefixes and names are bytes and nothing else."""
    if type(thing) is not bytes:
        raise TypeError(f"bytes are needed, and this is {type(thing).__name__}")
    return thing


def lsm_options(given: dict[str, Any]) -> dict[str, Any]:
    """plyvel's options by our names."""
    names = {
        "write_buffer_size": "write_buffer_bytes",
        "max_open_files": "max_open_files",
        "lru_cache_size": "cache_bytes",
        "block_size": "block_bytes",
        "block_restart_interval": "block_restart_interval",
        "max_file_size": "max_file_bytes",
    }
    comparator, comparator_name = given.pop("comparator", None), given.pop("comparator_name", None)
    if (comparator is None) != (comparator_name is None):
        raise ValueError("comparator and comparator_name go together")
    if comparator is not None:
        if not callable(comparator) or type(comparator_name) is not bytes:
            raise TypeError("a comparator is callable, and its name is bytes")
        raise Error("keys are ordered as bytes, and in no other way")
    compression = given.pop("compression", "snappy")
    if compression not in (None, "snappy"):
        raise ValueError("compression is None or 'snappy'")
    options: dict[str, Any] = {"filter": "leveldb" if given.pop("bloom_filter_bits", 0) else None, "sync": False}
    given.pop("paranoid_checks", None)  # always
    for name, value in given.items():
        if value is not None:
            if type(value) is not int:
                raise TypeError(f"{name} must be an int")
            options[names[name]] = value
    return options
