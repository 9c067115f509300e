"""The code on the pages about frameworks stands in the examples, which have tests of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {"fastapi": "fastapi_app", "django": "django_app"}


def read_blocks(page: str) -> list[str]:
    """The code of a page."""
    text = (ROOT / "docs/howto" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_code_stands_in_the_example(page: str) -> None:
    """Each block is in a file of the example as it is on the page, its indentation included."""
    files = [file.read_text("utf-8") for file in (ROOT / "examples" / PAGES[page]).rglob("*.py")]
    blocks = read_blocks(page)

    assert len(blocks) > 3
    assert [block for block in blocks if not any(block in file for file in files)] == []
