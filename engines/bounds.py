"""The bounds of a scan: two keys and a prefix, as one range.

    scan(b"b", b"d")                [b, d)      b, ba, c; the start belongs to it, the stop does not
    scan(prefix=b"user:")           [user:, user;)
    scan(b"user:5", prefix=b"user:")        [user:5, user;)

Every engine and every client calls `scan_bounds`, so that none of them knows about prefixes. Both are names of
`engines.kvstore` as well, which has the rest of the contract.
"""

from __future__ import annotations

from engines.errors import InvalidKey

__all__ = ["check_bounds", "prefix_end", "scan_bounds"]


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest bytes that are greater than every key that begins with `prefix`; None if no bytes are.

    None is the answer for b"", with which every key begins, and for one or more bytes of 0xff, above which nothing
    comes. O(length of the prefix).
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def check_bounds(start: object, stop: object, prefix: object) -> None:
    """Raises InvalidKey for a bound of a scan that is not bytes; stop and prefix may be None.

    Bounds need not be valid keys: b"" and very long ones are fine.
    """
    for name, bound in (("start", start), ("stop", stop), ("prefix", prefix)):
        if type(bound) is not bytes and not (bound is None and name != "start"):
            raise InvalidKey(f"the scan's {name} must be bytes, and this is {type(bound).__name__}")


def scan_bounds(start: bytes, stop: bytes | None, prefix: bytes | None) -> tuple[bytes, bytes | None]:
    """The half-open range [start, stop) that a scan covers, with `prefix` folded into its bounds.

    Takes what `scan` takes: a stop of None is the end of all keys, a prefix of None or b"" restricts nothing. Returns
    the tighter of the bounds: a key k lies in the range, start <= k and (stop is None or k < stop), exactly if it lies
    between the given bounds and begins with `prefix`. The range is empty when stop <= start. First calls `check_bounds`,
    which raises InvalidKey. O(1) comparisons.
    """
    check_bounds(start, stop, prefix)
    if prefix:
        start = max(start, prefix)
        end = prefix_end(prefix)
        if end is not None:
            stop = end if stop is None else min(stop, end)
    return start, stop
