"""What is done to a database that nobody has open."""

from __future__ import annotations

import os
import shutil
from typing import Any

from engines.lsm.repair import repair
from tests.interop.plyvel_adapter.errors import translated

__all__ = ["destroy_db", "repair_db"]


def repair_db(name: Any, **options: Any) -> None:
    """plyvel.repair_db."""
    with translated():
        repair(os.fsdecode(name))


def destroy_db(name: Any) -> None:
    """plyvel.destroy_db, without LevelDB's care for foreign files: it is only given a store of its own here."""
    with translated():
        shutil.rmtree(os.fsdecode(name))
