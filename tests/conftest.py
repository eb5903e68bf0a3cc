"""What all tests share: one seed, its place in every failure, Hypothesis's two tiers, the options `--engine` and `--plain`.

METCD_SEED=7 pytest                         another seed for every random choice of the run; 0 unless told otherwise
METCD_SHARE=0.3 pytest -m slow              that share of the slow tests, drawn by the seed
pytest --hypothesis-profile=slow            2,000 examples for each property, in place of the fast tier's
pytest tests/conformance --engine X         the conformance suite on the engine X (see tests/conformance)
pytest --plain                              every engine without its accelerations, as METCD_PLAIN=1 does
"""

import contextlib
import gc
import importlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import engines
from engines.env import plain_everywhere
from tests.conformance.promises import Grouped, repeat
from tests.raft import corpus

SEED = int(os.environ.get("METCD_SEED", "0"))
IGNORED = ("interop", "page")  # folders that `make test` leaves out
SHARE = float(os.environ.get("METCD_SHARE", "1"))

# Two cores shared by several runs make time limits of single examples meaningless, hence no deadline. No database: what
# a run does follows from its seed alone, and a failure prints the blob that repeats it.
settings.register_profile(
    "fast", max_examples=60, deadline=None, print_blob=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("slow", settings.get_profile("fast"), max_examples=2_000)
settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--engine` is declared here and not in tests/conformance, so that it is known wherever pytest is started."""
    parser.addoption(
        "--engine",
        action="append",
        metavar="NAME",
        help="run the conformance suite and the benchmarks on this engine only: a registered name, module:Class or "
        "path/to/file.py:Class; may be repeated",
    )
    parser.addoption("--plain", action="store_true", help="every engine without its accelerations (METCD_PLAIN=1)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hands our seed to Hypothesis, unless the command line gives it another one."""
    config.addinivalue_line("markers", "persistent: about what outlives a store; only for engines that keep files")
    config.addinivalue_line("markers", "read_only: about read_only and create; for engines that have these options")
    if config.getoption("--plain"):
        os.environ["METCD_PLAIN"] = "1"  # for the processes, too, that tests start
    if config.getoption("--engine") and any("conformance" in argument for argument in config.args):
        config.pluginmanager.register(Grouped(config), "promises")
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(SEED)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Lets each worker of xdist import the test modules from another one on, before it collects all of them in order.

    In a fresh checkout none is compiled, and rewriting their asserts takes 8 s. In step with the others, each worker
    would do all of it; so each does its part, and finds the others' byte code.
    """
    number, workers = (
        os.environ.get("PYTEST_XDIST_WORKER", "")[2:],
        int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
    )
    if not number or session.config.args != session.config.getini("testpaths"):
        return  # one process, or some tests only
    files = [file for file in sorted(Path(__file__).parent.rglob("test_*.py")) if file.parent.name not in IGNORED]
    begin = len(files) * int(number) // workers
    for file in files[begin:] + files[:begin]:
        with contextlib.suppress(Exception):  # collecting it says what is wrong, in words
            importlib.import_module(".".join(file.relative_to(session.config.rootpath).with_suffix("").parts))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes the tests about files away from the engines without files: they are not skipped, they don't apply. So are
    those about reading only for an engine of one's own that lacks the option."""
    foreign = set()
    for item in items:
        engine = item.callspec.params.get("engine") if hasattr(item, "callspec") else None
        if engine is None:
            continue
        for_files, for_readers = item.get_closest_marker("persistent"), item.get_closest_marker("read_only")
        if (for_files and not engine.persistent) or (for_readers and "read_only" not in engines.options(engine.where)):
            foreign.add(item)
    if config.getoption("--engine"):  # the suite's own proof judges no engine
        foreign.update(item for item in items if item.path.name == "test_suite_can_fail.py")
    foreign.update(item for item in items if item.get_closest_marker("slow") and not _drawn(item.nodeid))
    if foreign:
        config.hook.pytest_deselected(items=list(foreign))
        items[:] = [item for item in items if item not in foreign]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Takes what lives as long as the run (modules, some 9,000 tests) out of what the garbage collector looks through:
    a `gc.collect()` in a test took 0.1 s and takes 0.01 s, and a forked child copies no page of it."""
    gc.collect()
    gc.freeze()


def _drawn(nodeid: str) -> bool:
    """True if a slow test belongs to this run's share of them; which do depends on the seed alone."""
    return random.Random(f"{SEED}:{nodeid}").random() < SHARE


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With METCD_NO_SKIPS=1, a run in which a test was skipped has failed: something that it needs is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("METCD_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_report_header() -> list[str]:
    """On top of every run: the seed, the form of the engines if it is the plain one, and whether etcd's files are run."""
    return [f"METCD_SEED={SEED}" + (" METCD_PLAIN=1" if plain_everywhere() else ""), corpus.header()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says once more, also where the head is not shown (-q), that etcd's files were not there to be run."""
    if not corpus.FILES:
        terminalreporter.write_line(corpus.header())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the command that repeats a failure to its report."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        report.sections.append(("repeat", repeat(item.nodeid, item.config.getoption("--engine") or [])))


@pytest.fixture
def seed() -> int:
    """The run's seed."""
    return SEED


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance, decided by the run's seed and the test's name, so that adding a test doesn't change another one's."""
    return random.Random(f"{SEED}:{request.node.nodeid}")
