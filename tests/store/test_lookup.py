"""A URL's scheme leads to a store, ours or a third party's, by an entry point; none to two."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tapescope import SchemeTaken, UnknownStoreScheme, find_store
from tapescope_adapters.postgres import PostgresStore


@pytest.fixture
def _third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that has a store for ``theirs``, and wants ``sqlite`` too."""
    told = tmp_path / "their_package-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(
        "[tapescope.stores]\ntheirs = their_store:Theirs\nsqlite = their_store:Theirs\n"
    )
    (tmp_path / "their_store.py").write_text(
        "from tapescope.testing import MemoryStore\n"
        "class Theirs(MemoryStore):\n"
        "    def __init__(self, url, *, telemetry=None):\n"
        "        super().__init__(telemetry=telemetry)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.usefixtures("_third_party")
def test_a_third_partys_store_is_found() -> None:
    """By its own scheme; what others have is as before."""
    assert type(find_store("theirs://x")).__name__ == "Theirs"
    assert isinstance(find_store("postgresql://x"), PostgresStore)


@pytest.mark.usefixtures("_third_party")
def test_a_scheme_of_two_packages_is_nobodys() -> None:
    """Both are named, and neither is taken: nobody is to get another store than was meant."""
    with pytest.raises(SchemeTaken, match="several packages: tapescope, their-package") as raised:
        find_store("sqlite:///x.db")

    assert raised.value.packages == ("tapescope", "their-package")


@pytest.mark.usefixtures("_third_party")
def test_schemes_that_there_are_are_named() -> None:
    """A mistyped scheme is told with what there is, once each."""
    with pytest.raises(UnknownStoreScheme, match=r"postgres, postgresql, sqlite, theirs"):
        find_store("thiers://x")
