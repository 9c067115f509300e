"""Files of ours are UTF-8 whatever the locale: each that is read or written as text says so."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("adapters", "bench", "dashboards", "docs", "examples", "platform", "telemetry")
PLACES = {"open": 3, "read_text": 0, "write_text": 1}
"""Which positional argument is the encoding, of calls that open text."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_text_is_read_and_written_as_utf_8(folder: str) -> None:
    """No call leaves the encoding to the locale; a linter sees it only where it knows the type."""
    files = sorted((ROOT / folder).rglob("*.py"))
    left = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in files
        for line in find_calls(file.read_text(encoding="utf-8"))
    ]

    assert files
    assert left == []


def test_guard_sees_what_it_is_there_for() -> None:
    """Text that is opened in any of these ways is found, and bytes and stores are passed over."""
    program = (
        "for entry in folder.iterdir(): entry.read_text()\n"
        "path.write_text(text)\n"
        "open(path)\n"
        "path.open('w')\n"
        "subprocess.run(command, text=True)\n"
        "entry.read_text('utf-8'); entry.read_text(encoding='utf-8')\n"
        "path.write_text(text, 'utf-8'); open(path, 'rb'); path.open('wb'); await store.open()\n"
        "subprocess.run(command, text=True, encoding='utf-8'); os.open('/dev/tty', os.O_RDONLY)\n"
    )

    assert find_calls(program) == [1, 2, 3, 4, 5]


def find_calls(program: str) -> list[int]:
    """The lines of calls that leave an encoding to the locale."""
    return sorted(
        call.lineno
        for call in ast.walk(ast.parse(program))
        if isinstance(call, ast.Call) and opens_text(call) and not says_encoding(call)
    )


def opens_text(call: ast.Call) -> bool:
    """Whether the call opens a file, or the pipes of a process, as text."""
    for word in call.keywords:
        if word.arg in ("text", "universal_newlines") and ast.unparse(word.value) == "True":
            return True
    mode = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    if isinstance(call.func, ast.Name):
        return call.func.id == "open" and not is_binary(mode)
    if not isinstance(call.func, ast.Attribute):
        return False
    if ast.unparse(call.func) == "os.open":
        return False  # a descriptor
    if call.func.attr == "open":  # of a path with a mode; of a store, a socket else
        modes = [one for one in call.args[:1] if isinstance(one, ast.Constant)]
        return bool(modes) and not is_binary(modes)
    return call.func.attr in PLACES


def is_binary(modes: Sequence[ast.expr]) -> bool:
    """Whether one of these is the mode of a file of bytes."""
    return any(isinstance(one, ast.Constant) and "b" in str(one.value) for one in modes)


def says_encoding(call: ast.Call) -> bool:
    """Whether the call has an encoding of its own."""
    if any(word.arg == "encoding" for word in call.keywords):
        return True
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else name
    return len(call.args) > PLACES.get(name, len(call.args))
