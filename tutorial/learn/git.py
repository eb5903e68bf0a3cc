"""The few calls of git that a course directory needs: each green chapter is a commit, and so is what came before a change.

A commit is made whatever the person's own settings say about names, signing and hooks: it is only a bookmark.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tutorial.learn.errors import LearnError

__all__ = ["changed", "commit", "diff", "init"]

IDENTITY = ("-c", "user.name=metcd learn", "-c", "user.email=learn@metcd.invalid")
SETTINGS = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false")


def init(directory: Path) -> None:
    """Makes the directory a repository of its own, wherever it lies."""
    _git(directory, "init", "-q", "-b", "main")


def commit(directory: Path, message: str) -> bool:
    """Commits all that is there. False if nothing has changed since the last commit."""
    _git(directory, "add", "-A")
    if not changed(directory):
        return False
    _git(directory, "commit", "-q", "-m", message)
    return True


def changed(directory: Path) -> bool:
    """True if the files aren't those of the last commit."""
    return bool(_git(directory, "status", "--porcelain").strip())


def diff(directory: Path, *words: str) -> str:
    """What `git diff` says."""
    return _git(directory, "diff", *words)


def _git(directory: Path, *words: str) -> str:
    named = words[0] != "commit" or "GIT_AUTHOR_NAME" in os.environ or subprocess.run(
        ["git", "-C", str(directory), "config", "user.email"], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *(() if named else IDENTITY), *SETTINGS, *words],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
    except FileNotFoundError:
        raise LearnError("git is not installed: a course directory is a git repository, so install it first") from None
    except subprocess.CalledProcessError as error:
        raise LearnError(
            f"git {words[0]} in {directory} failed: {error.stderr.strip() or error.stdout.strip()}"
        ) from None
    return done.stdout
