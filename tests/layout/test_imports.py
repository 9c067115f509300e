"""What an import costs a user, and that the tests are found however pytest is started."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tapescope import find_store

ROOT = Path(__file__).parents[2]

NOT_AT_IMPORT = (
    "aiosqlite",
    "asyncpg",
    "click",
    "fastapi",
    "httpx",
    "jinja2",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "rich",
    "starlette",
    "tapescope_adapters",
    "temporalio",
    "uvicorn",
)

NOT_FOR_A_MANAGER = ("email", "importlib.metadata", "logging.config", "sqlite3", "tempfile")
"""Slow modules of the standard library that a manager has no need of before it is opened."""
OURS_AT_MOST = 140
"""Modules of ours behind ``TaskManager``; a new one is a reason to look here."""

MAY_CONFIGURE_THE_SDK = frozenset(
    f"telemetry/tapescope_telemetry/{name}.py"
    for name in (
        "delivery",
        "exporters",
        "identity",
        "lifetime",
        "prometheus/exemplars",
        "prometheus/families",
        "prometheus/reader",
        "providers",
        "sampling",
    )
)
"""Modules that may import the OpenTelemetry SDK: those of ``setup`` and the Prometheus reader.

A library uses the API; its user imports these.
"""


def run(*command: str) -> str:
    """What ``command`` prints; the test fails with all it said when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_import_loads_no_sdk_driver_server_or_terminal() -> None:
    """``import tapescope`` loads neither an SDK nor an exporter, driver, server or terminal UI."""
    loaded = run(sys.executable, "-c", "import sys, tapescope; print(*sys.modules, sep='\\n')")
    modules = loaded.split()

    assert "tapescope" in modules
    assert [
        name
        for name in modules
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in NOT_AT_IMPORT)
    ] == []


def test_the_web_framework_is_imported_with_the_api_alone() -> None:
    """The listeners of health and metrics need none of it; the API says what to install."""
    said = run(
        sys.executable,
        "-c",
        "import sys\n"
        "import tapescope.http, tapescope.http.tokens\n"
        "print({'fastapi', 'jinja2', 'pydantic', 'starlette', 'uvicorn'} & set(sys.modules))\n"
        "sys.modules['fastapi'] = None\n"
        "try:\n"
        "    import tapescope.http.api\n"
        "except tapescope.errors.MissingExtra as error:\n"
        "    print(error)\n",
    )

    assert said == "set()\nThe HTTP API needs more packages: pip install 'tapescope[server]'\n"


def test_a_manager_is_imported_without_what_only_some_use() -> None:
    """``from tapescope import TaskManager`` loads no driver, SDK or terminal, nor much of ours."""
    program = "import sys\nfrom tapescope import TaskManager\nprint(*sys.modules, sep='\\n')"
    modules = run(sys.executable, "-c", program).split()

    assert [
        name
        for name in modules
        for heavy in (*NOT_AT_IMPORT, *NOT_FOR_A_MANAGER)
        if name == heavy or name.startswith(f"{heavy}.")
    ] == []
    assert len([name for name in modules if name.startswith("tapescope")]) <= OURS_AT_MOST


def test_no_other_module_imports_the_sdk() -> None:
    """But for these the packages import the OpenTelemetry API only, in no function either."""
    using = {
        str(path.relative_to(ROOT))
        for root in ("platform", "adapters", "telemetry")
        for path in (ROOT / root).rglob("*.py")
        for name in imported_names(path)
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    }

    assert using == MAY_CONFIGURE_THE_SDK


def imported_names(path: Path) -> list[str]:
    """Every dotted name that the module at ``path`` imports, at its top or inside a function."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "postgres"])
def test_stores_are_found_by_scheme(scheme: str) -> None:
    """Each URL scheme of ours leads to a store class, found by us as by its entry point."""
    (found,) = entry_points(group="tapescope.stores", name=scheme)

    assert type(find_store(f"{scheme}:///x")) is found.load()


@pytest.mark.parametrize(
    "start",
    [(sys.executable, "-m", "pytest"), (str(Path(sys.executable).with_name("pytest")),)],
    ids=["python -m pytest", "pytest"],
)
def test_pytest_collects_from_the_root(start: tuple[str, ...]) -> None:
    """``python -m pytest``, which puts the root first on the path, and ``pytest`` both collect."""
    printed = run(*start, "--collect-only", "-q", "tests/layout/test_source_roots.py")

    assert "tests/layout/test_source_roots.py::test_platform_is_the_standard_librarys" in printed
