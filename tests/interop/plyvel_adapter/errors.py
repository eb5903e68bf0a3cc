"""plyvel's errors, and ours told as them."""

from __future__ import annotations

import builtins
from collections.abc import Iterator as AnyIterator
from contextlib import contextmanager

import engines
from engines import StoreClosed, StoreError

__all__ = ["CorruptionError", "Error", "IOError", "IteratorInvalidError", "translated"]


class Error(Exception):
    """Whatever goes wrong in a store."""


class IOError(Error, builtins.IOError):
    """The disk's errors."""


class CorruptionError(Error):
    """Damage."""


class IteratorInvalidError(Error):
    """A raw iterator that stands on no pair was asked for it."""


@contextmanager
def translated() -> AnyIterator[None]:
    """Our errors as plyvel's: what is closed is a RuntimeError there, what is no bytes a TypeError."""
    try:
        yield
    except StoreClosed as error:
        raise RuntimeError(str(error)) from error
    except engines.CorruptionError as error:
        raise CorruptionError(str(error)) from error
    except (engines.NoSuchStore, StoreError) as error:
        raise Error(str(error)) from error
    except OSError as error:
        raise IOError(str(error)) from error
