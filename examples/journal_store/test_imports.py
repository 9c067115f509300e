"""The example is written from public names only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent
OWN = "journal_store"
DOORS = frozenset({"tapescope.errors", "tapescope.model", "tapescope.store"})
"""What a store's author may import of tapescope: these modules, by their own names alone."""
IN_TESTS = frozenset({"tapescope.testing.conformance", "tapescope.testing.tasks", "pytest"})


def find_foreign_imports(allowed: frozenset[str], *paths: Path) -> set[tuple[str, str]]:
    """(file, module) of each import that is neither allowed, nor our own, nor Python's."""
    foreign: set[tuple[str, str]] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            for name in names:
                top = name.partition(".")[0]
                if name not in allowed and top != OWN and top not in sys.stdlib_module_names:
                    foreign.add((path.name, name))
    return foreign


def test_store_is_written_from_the_doors_alone() -> None:
    """It imports ``tapescope.store``, ``.model`` and ``.errors``, and nothing from inside them."""
    modules = list((ROOT / OWN).glob("*.py"))

    assert len(modules) > 4
    assert find_foreign_imports(DOORS, *modules) == set()


def test_its_tests_need_the_suite_and_no_more() -> None:
    """Beside the doors they import what ``tapescope.testing`` has for them, and pytest."""
    tests = list(ROOT.glob("test_*.py"))

    assert len(tests) > 2
    assert find_foreign_imports(DOORS | IN_TESTS, *tests) == set()


def test_an_import_from_inside_is_found(tmp_path: Path) -> None:
    """A module of the platform that is not a door is named, however it is imported."""
    module = tmp_path / "nosy.py"
    program = "import tapescope.store._pending\nfrom tapescope.store.flush import Flush\n"
    module.write_text(program, encoding="utf-8")

    assert find_foreign_imports(DOORS, module) == {
        ("nosy.py", "tapescope.store._pending"),
        ("nosy.py", "tapescope.store.flush"),
    }
