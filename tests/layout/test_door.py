"""The public door: ``import tapescope`` costs nothing, and every public name is where it says."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

import tapescope
import tapescope_telemetry
from tapescope import CancelReason, DroppedEvent, DropReason, Event, FinalEvent, errors

ROOT = Path(__file__).parents[2]
DOORS = (tapescope, tapescope_telemetry)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

LOADED = """
def loaded():
    import sys

    ours = ("tapescope", "tapescope_adapters", "tapescope_telemetry")
    names = [name for name in sys.modules if name.split(".")[0] in ours]
    return sorted({".".join(name.split(".")[:2]) for name in names})
"""
"""Gives the modules of ours that a program has loaded, the rooms without what is inside them."""


def run_fresh(program: str) -> str:
    """What a program prints in an interpreter of its own; the test fails when the program does."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read_door() -> ast.Module:
    """The door's own source."""
    return ast.parse(Path(str(tapescope.__file__)).read_text(encoding="utf-8"))


def list_typed_imports() -> dict[str, tuple[str, str]]:
    """Public name → (module, name there), as a type checker reads the door."""
    (guarded,) = (
        node
        for node in read_door().body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def list_documented_imports() -> Iterator[tuple[str, str, str]]:
    """(page, module, name) of each import of ours in the Python programs of the README and docs."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in PYTHON_BLOCK.findall(page.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(dedent(block))):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tapescope"):
                    for alias in node.names:
                        yield page.name, str(node.module), alias.name


def test_import_loads_no_room() -> None:
    """``import tapescope`` loads the door alone: no manager, no telemetry, no OpenTelemetry."""
    printed = run_fresh(
        f"{LOADED}\nimport tapescope, sys\nprint(loaded(), 'opentelemetry' in sys.modules)"
    )

    assert printed == "['tapescope'] False"


def test_telemetry_loads_the_words_and_the_errors_alone() -> None:
    """``import tapescope_telemetry`` first: of the platform it loads the model and the errors."""
    printed = run_fresh(
        f"{LOADED}\nimport tapescope_telemetry\n"
        "print([name for name in loaded() if not name.startswith('tapescope_telemetry')])\n"
        "import tapescope\n"
        "assert tapescope.Telemetry is tapescope_telemetry.Telemetry\n"
        "assert tapescope.TaskManager.__module__ == 'tapescope.manager.manager'"
    )

    assert printed == "['tapescope', 'tapescope.errors', 'tapescope.model']"


@pytest.mark.parametrize("room", ["errors", "model"])
def test_the_ground_needs_the_standard_library_alone(room: str) -> None:
    """The model and the errors load nothing but the standard library and each other."""
    printed = run_fresh(
        "import sys\nbefore = set(sys.modules)\n"
        f"import tapescope.{room}\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names)"
    )

    assert printed == "{'tapescope'}"


def test_star_import_gives_every_public_name() -> None:
    """``from tapescope import *`` gives what ``__all__`` names, and nothing besides."""
    printed = run_fresh(
        "before = set(globals())\nfrom tapescope import *\n"
        "import tapescope\n"
        "got = set(globals()) - before - {'before', 'tapescope'}\n"
        "print(got == set(tapescope.__all__))"
    )

    assert printed == "True"


def test_errors_are_there_after_a_plain_import() -> None:
    """``except tapescope.errors.UnknownTask`` needs no import but that of ``tapescope``."""
    printed = run_fresh(
        "import tapescope\nprint(tapescope.errors.UnknownTask is tapescope.UnknownTask)"
    )

    assert printed == "True"


def test_values_are_pickled_from_process_to_process() -> None:
    """A pickle of public values is read by a process that has imported nothing of ours yet."""
    event = Event(1, "log", 0, 1, {"message": "a"})
    drop = DroppedEvent("id", 1, "log", DropReason.STALE_ATTEMPT, 0, None, None, None)
    values = (event, drop, FinalEvent.succeeded(1), CancelReason.USER, tapescope.TaskManager)
    program = (
        "import pickle, sys\n"
        f"values = pickle.loads({pickle.dumps(values)!r})\n"
        "import tapescope\n"
        "print(values[0].ts.year, values[1].reason is tapescope.DropReason.STALE_ATTEMPT,"
        " values[2] == tapescope.Final.succeeded(1), values[3].value,"
        " values[4] is tapescope.TaskManager)"
    )

    assert run_fresh(program) == "1970 True True user True"
    assert copy.deepcopy(values) == values


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_an_unknown_name_is_an_error_that_names_it(door: object) -> None:
    """A name that the package does not have is an ``AttributeError``, and has a suggestion."""
    with pytest.raises(AttributeError) as raised:
        _ = door.Telemetrie  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]  # the point of the test

    name = getattr(door, "__name__", "")
    assert str(raised.value) == f"module {name!r} has no attribute 'Telemetrie'"
    assert (raised.value.name, raised.value.obj) == ("Telemetrie", door)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_type_checkers_do_not_see_the_lazy_lookup(door: object) -> None:
    """A type checker that saw a module's ``__getattr__`` would accept any name from it."""
    tree = ast.parse(Path(str(getattr(door, "__file__", None))).read_text(encoding="utf-8"))
    hidden = [
        node.test
        for node in tree.body
        if isinstance(node, ast.If)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef) and inner.name == "__getattr__"
    ]

    assert [ast.unparse(test) for test in hidden] == ["not TYPE_CHECKING"]
    assert not [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "__getattr__"]


def test_the_table_is_what_type_checkers_read() -> None:
    """The table, ``__all__`` and the imports for type checkers name the same things."""
    table = ast.literal_eval(find_value("_HOMES"))
    aliases = ast.literal_eval(find_value("_ALIASES"))
    typed = list_typed_imports()

    assert typed.pop("errors") == ("tapescope", "errors")
    assert typed == {name: (home, aliases.get(name, name)) for name, home in table.items()}
    assert sorted(table) == sorted(tapescope.__all__)


def find_value(name: str) -> ast.expr:
    """What the door assigns to this name of its own."""
    (value,) = (
        node.value
        for node in read_door().body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return value


def test_every_public_name_is_its_homes() -> None:
    """Each name of ``__all__`` is the object that its module has, and is listed by ``dir``."""
    for name, (home, original) in list_typed_imports().items():
        assert getattr(tapescope, name) is getattr(import_module(home), original), name
    listed = run_fresh("import tapescope\nprint(*dir(tapescope))").split()

    assert {*tapescope.__all__, "errors"} <= set(listed)


def test_every_error_is_public() -> None:
    """An error that a caller can get has its name at the door."""
    assert set(errors.__all__) <= set(tapescope.__all__)


def test_documented_imports_are_public() -> None:
    """What the README and the docs import is there, and is public where they import it from."""
    imports = list(list_documented_imports())

    assert ("README.md", "tapescope", "TaskManager") in imports
    for page, module, name in imports:
        assert name in import_module(module).__all__, f"{module}.{name} in {page}"
