"""A URL's scheme leads to a store: ours by a table, a third party's by its entry point."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tapescope import SchemeTaken, TaskManager, UnknownStoreScheme, find_store
from tapescope.testing import MemoryStore
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore


def install(folder: Path, package: str, schemes: Sequence[str]) -> None:
    """Have a package there that registers a store for these schemes."""
    told = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    entries = [f"{scheme} = their_store:Theirs\n" for scheme in schemes]
    (told / "entry_points.txt").write_text("".join(["[tapescope.stores]\n", *entries]))


@pytest.fixture
def _third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that has a store for ``theirs``, and wants ``sqlite`` too."""
    install(tmp_path, "their-package", ["theirs", "sqlite"])
    (tmp_path / "their_store.py").write_text(
        "from tapescope.testing import MemoryStore\n"
        "class Theirs(MemoryStore):\n"
        "    def __init__(self, url, *, telemetry=None):\n"
        "        super().__init__(telemetry=telemetry)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.usefixtures("_third_party")
def test_a_third_partys_store_is_found() -> None:
    """By its own scheme; a scheme of ours stays ours."""
    assert type(find_store("theirs://x")).__name__ == "Theirs"
    assert isinstance(find_store("sqlite:///x.db"), SqliteStore)


@pytest.mark.usefixtures("_third_party")
def test_a_scheme_of_two_packages_is_nobodys(tmp_path: Path) -> None:
    """Both are named, and neither is taken: for theirs always, for ours where a manager asks."""
    install(tmp_path, "other-package", ["theirs"])
    with pytest.raises(SchemeTaken, match="several packages: other-package, their-package"):
        find_store("theirs://x")
    with pytest.raises(SchemeTaken, match="several packages: tapescope, their-package") as raised:
        TaskManager("sqlite:///x.db")
    with pytest.raises(SchemeTaken, match="several packages: tapescope, their-package"):
        TaskManager(MemoryStore()).reconfigure(store="sqlite:///x.db")

    assert raised.value.packages == ("tapescope", "their-package")
    assert isinstance(TaskManager("postgresql://x").store, PostgresStore)


@pytest.mark.usefixtures("_third_party")
def test_schemes_that_there_are_are_named() -> None:
    """A mistyped scheme is told with what there is, once each."""
    with pytest.raises(UnknownStoreScheme, match=r"postgres, postgresql, sqlite, theirs"):
        find_store("thiers://x")
