"""README's table and pictures of the engines are of the document that is kept."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.report.readme import BEGIN, DOCUMENT, END, ROOT, between_marks, kept, main, problems, section
from bench.results import Results
from tests.bench.sample_results import sample


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a README and a document. Drawn once: that takes a second."""
    root = tmp_path_factory.mktemp("repository")
    (root / "README.md").write_text(f"# before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    (root / "run.json").write_text(sample().encode())
    assert main([str(root / "run.json")], root) == 0
    return root


def test_the_command_makes_what_stands_between_the_marks(root: Path) -> None:
    readme = (root / "README.md").read_text()
    assert readme.startswith(f"# before\n\n{BEGIN}\n**Engines beside their peers**")
    assert readme.endswith(f"{END}\n\nafter\n")
    assert "| readrandom | 125 | 250 | **500** | 143 |" in readme
    assert "3 repetitions" in readme
    assert "lsm has `cache_bytes=1`" in readme
    assert "Versions: LevelDB 1.5.1." in readme


def test_a_picture_stands_in_light_and_in_dark(root: Path) -> None:
    names = sorted(file.name for file in (root / "docs/bench").glob("*.svg"))
    assert names == [
        f"{name}-{mode}.svg" for name in ("amplification", "growth", "throughput") for mode in ("dark", "light")
    ]
    for file in (root / "docs/bench").glob("*.svg"):
        assert file.read_text().startswith("<svg")
        ElementTree.fromstring(file.read_text())
        assert f"docs/bench/{file.name}" in (root / "README.md").read_text()


def test_what_is_not_of_the_kept_document_is_found(root: Path) -> None:
    assert problems(root) == []
    assert main(["--check"], root) == 0
    document, readme = (root / DOCUMENT).read_text(), (root / "README.md").read_text()
    try:
        (root / "README.md").write_text(readme.replace("**500**", "**501**"))
        assert problems(root) == [f"README.md is not what {DOCUMENT} says"]
        (root / "README.md").write_text(readme)
        (root / DOCUMENT).write_text(document.replace('"seed": 0', '"seed": 1'))
        assert f"docs/bench/growth-dark.svg is not of {DOCUMENT}" in problems(root)
        assert main(["--check"], root) == 1
    finally:
        (root / DOCUMENT).write_text(document)
        (root / "README.md").write_text(readme)


def test_readme_is_what_the_kept_document_says() -> None:
    """After another run: python -m bench.report.readme run.json."""
    assert problems(ROOT) == []


def test_the_kept_document_has_no_histograms(root: Path) -> None:
    assert '"histogram": ""' in (root / DOCUMENT).read_text()
    assert Results.decode((root / DOCUMENT).read_text()) == kept(sample())


def test_a_readme_without_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("nothing\n")
    (tmp_path / "run.json").write_text(sample().encode())
    assert main([str(tmp_path / "run.json")], tmp_path) == 1
    assert "README.md has no lines" in capsys.readouterr().err
    assert not (tmp_path / DOCUMENT).exists()


def test_a_name_is_no_markup() -> None:
    results = sample()
    text = section(results).replace("LevelDB", "a|b")
    assert "<script" not in text
    with pytest.raises(ValueError, match="has no lines"):
        between_marks(text)
