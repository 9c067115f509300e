"""The site is built of the pages without a warning, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urldefrag, urlparse

import pytest

import tapescope

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|img|source)\b[^>]*?\ssrc="([^"]+)"|<link\b[^>]*?\shref="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``make site`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html"]
    places: list[str | Path] = ["--conf-dir", ROOT / "docs/site", "--doctree-dir", folder / "pages"]
    built = subprocess.run(
        [*sphinx, *places, ROOT, folder / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "site"


def list_loaded(page: Path) -> Iterator[str]:
    """What a browser loads with a page."""
    for source, sheet in LOADED.findall(page.read_text(encoding="utf-8")):
        yield source or sheet


def test_every_page_of_the_index_is_there(site: Path) -> None:
    """Also those that it leads to outside of docs."""
    links = re.findall(r"\]\(([^):#]+)\.md\)", (ROOT / "docs/index.md").read_text(encoding="utf-8"))

    assert len(links) > 30
    for link in links:
        assert (site / "docs" / f"{link}.html").is_file(), link


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Every script, sheet and picture is a file of the site."""
    pages = sorted(site.rglob("*.html"))
    loaded = {(page, found) for page in pages for found in list_loaded(page)}

    assert len(pages) > 100
    assert [found for _, found in loaded if urlparse(found).netloc] == []
    for page, found in loaded:
        path = urldefrag(found).url.partition("?")[0]
        assert (page.parent / path).exists(), (page, found)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """Each has an entry of its own, by the name it is imported by."""
    page = (site / "docs/reference/api.html").read_text(encoding="utf-8")
    told = set(re.findall(r'id="tapescope\.(\w+)"', page))

    assert set(tapescope.__all__) - {"__version__"} - told == set()
