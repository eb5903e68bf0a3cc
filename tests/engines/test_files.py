"""engines/files.py: a whole file in one call."""

from __future__ import annotations

import pytest

from engines.files import read_whole
from engines.simenv import SimEnv


@pytest.mark.parametrize("content", [b"", b"some bytes" * 1000])
def test_read_whole_returns_the_content(content: bytes) -> None:
    env = SimEnv()
    file = env.open("/a", "x")
    file.append(content)
    file.close()
    assert read_whole(env, "/a") == content


def test_read_whole_raises_what_open_raises() -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(SimEnv(), "/missing")
