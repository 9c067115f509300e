"""The page on how to write a store: its code is the example's, and its program runs."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

import tapescope.store
from tapescope.testing import conformance

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "journal_store"
PAGE = (ROOT / "docs" / "howto" / "write-a-store.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block]
EXCERPTS = [block for block in BLOCKS if block not in PROGRAMS]


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=lambda block: block.split("\n")[0].strip())
def test_code_stands_in_the_example(excerpt: str) -> None:
    """Each block is in a file of the example as it is on the page, its indentation included."""
    files = [*EXAMPLE.rglob("*.py"), EXAMPLE / "pyproject.toml"]

    assert any(excerpt in file.read_text(encoding="utf-8") for file in files)


def test_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It opens a journal in the folder where it is started, and prints its task's result."""
    (program,) = PROGRAMS
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "write-a-store.md", "exec"), {"__name__": "__main__"})

    assert capsys.readouterr().out == "Hello, Ann\n"
    assert (tmp_path / "tasks.journal").exists()


def test_page_names_what_there_is() -> None:
    """Every topic of the suite is on the page, and every helper in its table can be imported."""
    topics = {topic.__name__ for topic in conformance.StoreConformance.__bases__}
    table = PAGE[PAGE.index("| function |") : PAGE.index("So the rows of a flush")]
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    helpers = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}

    assert set(re.findall(r"`(\w+Conformance)`", PAGE)) == topics
    assert len(helpers) > 8
    assert helpers <= set(tapescope.store.__all__)


def test_readme_of_the_example_shows_its_entry_point() -> None:
    """What the README says of the scheme is what the project's metadata say."""
    (entry,) = re.findall(r"```toml\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)

    assert dedent(entry) in (EXAMPLE / "pyproject.toml").read_text()
