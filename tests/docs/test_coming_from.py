"""The programs for those who come from another library run, and print what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs/coming-from").glob("*.md"))
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != "index"], ids=lambda page: page.stem
)
def test_the_same_program_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder; and the page says of which version it speaks."""
    text = page.read_text(encoding="utf-8")
    ((program, printed),) = PROGRAM.findall(text)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, page.name, "exec", dont_inherit=True), {"__name__": "__main__"})

    assert capsys.readouterr().out == printed
    assert re.search(r"This speaks of .+, as of November 2026", text)


def test_the_index_leads_to_each() -> None:
    """None is left out."""
    index = next(page for page in PAGES if page.stem == "index").read_text(encoding="utf-8")

    assert [page.name for page in PAGES if f"({page.name})" not in index] == ["index.md"]
