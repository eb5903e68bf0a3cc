"""Runs the cases about forks and endings on every Python from 3.11 on that is found: `make pythons`.

Found are ~/.pyenv/versions/*/bin/python and python3.11, python3.12 … on PATH, one of each version that really runs. Each gets
a venv in .pythons, with what `dependencies` of pyproject.toml has and pytest; it is made once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
VENVS = REPOSITORY / ".pythons"
NEEDED = ["pytest", "pytest-benchmark", "hypothesis"]
CASES = ["processes", "endings", "interrupts"]


def version_of(python: str) -> tuple[int, int] | None:
    """(3, 12) of a Python that runs; None of one that doesn't: pyenv puts names on PATH that only say what is missing."""
    command = [python, "-c", "import sys, venv; print(*sys.version_info[:2])"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    words = ran.stdout.split()
    return (int(words[0]), int(words[1])) if ran.returncode == 0 and len(words) == 2 else None


def found() -> dict[tuple[int, int], str]:
    """Version → Python, of those that the project is for."""
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    installed = sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python"))
    pythons: dict[tuple[int, int], str] = {}
    for python in [sys.executable, *installed, *filter(None, named)]:
        if (version := version_of(python)) is not None and version >= (3, 11):
            pythons.setdefault(version, python)
    return dict(sorted(pythons.items()))


def venv_of(version: tuple[int, int], python: str) -> str:
    """A venv's Python, which has the libraries."""
    home = VENVS / f"{version[0]}.{version[1]}"
    if not (home / ".installed").exists():
        needed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
        subprocess.run([python, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(home / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *needed, *NEEDED], check=True)
        (home / ".installed").touch()
    return str(home / "bin/python")


def main() -> int:
    """0 if the cases passed on each."""
    failed = []
    for version, python in found().items():
        name = f"Python {version[0]}.{version[1]}"
        print(f"{name}, {python}", flush=True)
        command = [venv_of(version, python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
        command += [f"tests/conformance/test_contract_{case}.py" for case in CASES]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        if subprocess.run(command, cwd=REPOSITORY, env=environment).returncode:
            failed.append(name)
    print("failed on " + ", ".join(failed) if failed else "passed on each")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
