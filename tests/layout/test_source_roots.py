"""The layout's one trap: ``platform/`` is a source root, never a package."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("root", ["platform", "adapters", "telemetry"])
def test_source_roots_are_not_packages(root: str) -> None:
    """An ``__init__.py`` here would shadow the standard library's ``platform``."""
    folder = ROOT / root

    assert folder.is_dir()
    assert not (folder / "__init__.py").exists()


@pytest.mark.parametrize(
    "package",
    ["platform/tapescope", "adapters/tapescope_adapters", "telemetry/tapescope_telemetry"],
)
def test_each_package_is_typed(package: str) -> None:
    """Users' type checkers read our annotations only where ``py.typed`` says so."""
    folder = ROOT / package

    assert (folder / "__init__.py").is_file()
    assert (folder / "py.typed").is_file()


def test_platform_is_the_standard_librarys() -> None:
    """``import platform`` finds the standard library, even from the repository root."""
    found = Path(platform.__file__).parent

    assert found == Path(sysconfig.get_path("stdlib"))
