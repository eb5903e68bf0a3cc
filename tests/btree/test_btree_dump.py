"""A file in words, page by page, damage included."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.btree import BTreeStore
from engines.env import real_env


@pytest.mark.parametrize("golden", ["bbolt", "etcd", "ours"], indirect=True)
def test_a_golden_file_is_shown_in_words(golden: Path) -> None:
    """dump: every page once, in the order of the file."""
    lines = list(BTreeStore.dump(str(golden), real_env()))
    pages = [int(line.split()[1].rstrip(":")) for line in lines if line.startswith("page ")]
    assert pages == sorted(set(pages)) and len(pages) > 2
    assert not [line for line in lines if "damaged" in line or "violation" in line]


@pytest.mark.parametrize("golden", ["ours"], indirect=True)
def test_a_dump_shows_damage_and_goes_on(golden: Path) -> None:
    """Any byte may be wrong, and the file may end anywhere: lines come out, and no exception."""
    data = golden.read_bytes()
    well = list(BTreeStore.dump(str(golden), real_env()))
    assert any(": leaf" in line for line in well) and any(": branch" in line for line in well)
    assert any("provisional" in line for line in well) is False
    for at in range(0, len(data), 331):
        golden.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        assert list(BTreeStore.dump(str(golden), real_env()))
        golden.write_bytes(data[:at])
        list(BTreeStore.dump(str(golden), real_env()))
    golden.write_bytes(b"none of this" * 900)
    assert list(BTreeStore.dump(str(golden), real_env())) == []
