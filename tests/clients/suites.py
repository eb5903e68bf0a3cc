"""Test suites of etcd's Python clients, as their packages carry them, in a process of their own each.

    etcd3gw     the client of OpenStack: its functional tests and its unit tests
    tooz        OpenStack's coordination (groups, locks, elections): all tests of the interface, with its etcd3gw driver

How many of them pass, and how many say that the driver has no such feature, is known from a real etcd 3.4.23: a suite that
finds nothing to talk to skips nearly all, and must not pass for that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.clients.systems import Missing, System

__all__ = ["etcd3gw", "tooz"]

TIMEOUT_S = 600.0
_RAN = re.compile(r"^Ran (\d+) tests? in ([\d.]+)s\n\nOK(?: \(skipped=(\d+)\))?$", re.MULTILINE)


def etcd3gw(system: System, directory: Path) -> str:
    """39 tests, none skipped."""
    return _run(system, directory, "etcd3gw", ["etcd3gw.tests.test_client", "etcd3gw.tests.test_etcd3gw"], 39, 0)


def tooz(system: System, directory: Path) -> str:
    """85 tests, 18 of which are of features that the driver doesn't have."""
    return _run(system, directory, "tooz", ["tooz.tests.test_coordination", "tooz.tests.drivers.test_etcd3gw"], 85, 18)


def _run(system: System, directory: Path, package: str, modules: list[str], tests: int, skipped: int) -> str:
    """Runs a suite against the first node; returns a sentence. Raises AssertionError with the end of what it printed."""
    if subprocess.run([sys.executable, "-c", f"import {package}.tests"], capture_output=True, check=False).returncode:
        raise Missing(f"{package} or what its tests need isn't installed: make clients does it")
    url = system.urls[0]
    environment = {
        **os.environ,
        "TOOZ_TEST_HTTP_URL": url,
        "TOOZ_TEST_ETCD_PORT": url.rpartition(":")[2],
        "TOOZ_TEST_URL": f"etcd3+{url}?api_version=v3",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", *modules],
        cwd=directory, env=environment, timeout=TIMEOUT_S, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (directory / f"{package}.log").write_text(ran.stderr + ran.stdout)
    found = _RAN.search(ran.stderr)
    assert ran.returncode == 0 and found is not None, f"{package}'s suite failed:\n{_failures(ran.stderr)}"
    counts = int(found[1]), int(found[3] or 0)
    assert counts == (tests, skipped), f"of {package}'s {tests} tests {skipped} are skipped, and here it was {counts}"
    return f"{tests - skipped} passed, {skipped} skipped, {float(found[2]):.0f} s"


def _failures(text: str) -> str:
    """The part of unittest's report that begins with the first failure; else its end."""
    return text[text.find("=" * 70) :][:8000] if "=" * 70 in text else text[-4000:]
