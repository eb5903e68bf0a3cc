"""Who waits for a lock."""

from __future__ import annotations

import sys
import threading

__all__ = ["waits_for"]


def waits_for(thread: threading.Thread, lock: object) -> bool:
    """True if the thread is in `holding` with that lock (engines/lifetime.py)."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_locals.get("lock") is lock
