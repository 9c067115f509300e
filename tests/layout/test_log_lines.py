"""What a log line about one task has besides its text."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def find_lines(path: Path) -> list[tuple[int, bool]]:
    """The warnings and errors of a module that name a task: where, and whether they have ids."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: list[tuple[int, bool]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="_log"), attr="warning" | "error"),
                args=[text, *_],
            ):
                said = texts.get(text.id) if isinstance(text, ast.Name) else None
                said = text.value if isinstance(text, ast.Constant) else said
                if "task %s" in str(said).lower():
                    found.append((node.lineno, any(key.arg == "extra" for key in node.keywords)))
            case _:
                pass
    return found


def test_a_warning_about_a_task_has_its_ids() -> None:
    """Where a run is known, the line leads to its trace: ``ids_of`` has what that takes."""
    paths = [
        path
        for room in ("run", "manager", "store")
        for path in (ROOT / "platform" / "tapescope" / room).glob("*.py")
    ]
    found = [(path.name, *line) for path in paths for line in find_lines(path)]

    assert len(found) >= 5
    assert [(name, line) for name, line, has_ids in found if not has_ids] == []
