"""engines/lsm/files.py: which names in a store's directory are the engine's."""

from __future__ import annotations

import pytest

from engines.lsm.files import parse


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("100.log", ("log", 100)),
        ("0.log", ("log", 0)),
        ("0.sst", ("sst", 0)),
        ("000007.ldb", ("ldb", 7)),
        ("MANIFEST-2", ("manifest", 2)),
        ("000005.dbtmp", ("dbtmp", 5)),
        ("000007.ldb.4711", ("part", 7)),
        ("18446744073709551615.log", ("log", 18446744073709551615)),
        *[(name, None) for name in ("CURRENT", "LOCK", "LOG", "LOG.old", "", "foo", "foo-dx-100.log", ".log", "100")],
        *[
            (name, None)
            for name in ("manifest", "MANIFEST", "MANIFEST-", "XMANIFEST-3", "MANIFEST-3x", "100.", "100.lop")
        ],
        *[(name, None) for name in ("\u0661.log", "7.ldb.", "7.log\n")],
    ],
)
def test_names_of_files(name: str, expected: tuple[str, int] | None) -> None:
    """filename_test.cc."""
    assert parse(name) == expected
