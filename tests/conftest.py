"""Fixtures for every test: the real stores that it may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.made_files import MadeFile
from tests.support.made_schemas import MadeSchemas
from tests.support.services import Collector, Postgres, running_collector, running_postgres


@pytest.fixture(scope="session", autouse=True)
def heard_signals() -> None:
    """Undo what `nohup` and a shell's `&` do to whatever they start: they have it ignore signals.

    The programs that the tests start inherit that, and would rightly heed neither Ctrl-C nor a
    hangup, which is what some of these tests are about.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL 18 for the session, started when the first test asks for it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def made_schemas(postgres_server: Postgres) -> MadeSchemas:
    """The schemas that the tests of the session have one after the other."""
    return MadeSchemas(postgres_server)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a PostgreSQL store in a schema that only this test uses.

    The store is made, and nobody has used it. Where the test is marked ``unmade``, there is no such
    schema: the store makes it when it opens.
    """
    if request.node.get_closest_marker("unmade"):
        server: Postgres = request.getfixturevalue("postgres_server")
        yield server.url()
        return
    schemas: MadeSchemas = request.getfixturevalue("made_schemas")
    with schemas.lend() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite store in a file that only this test uses, and that is not there yet."""
    return f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> MadeFile:
    """The file of a store that is made; what the tests have are copies."""
    return MadeFile(tmp_path_factory.mktemp("made") / "tasks.db")


@pytest.fixture
def made_sqlite_url(sqlite_url: str, request: pytest.FixtureRequest) -> str:
    """As ``sqlite_url``, and the store is made, unless the test is marked ``unmade``."""
    if not request.node.get_closest_marker("unmade"):
        made: MadeFile = request.getfixturevalue("made_file")
        made.copy(Path(sqlite_url.removeprefix("sqlite:///")))
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store: the test runs once on SQLite and once on PostgreSQL.

    The store is made, unless the test is marked ``unmade``.
    """
    fixture = {"sqlite": "made_sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store of every kind, as ``store_url``, the model in memory included."""
    if request.param == "memory":
        return "memory:"
    fixture = {"sqlite": "made_sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """A real OpenTelemetry collector for the session, and what programs sent to it."""
    with running_collector() as collector:
        yield collector


@pytest.fixture
def captured() -> Iterator[CapturedTelemetry]:
    """A telemetry on providers of its own, and what they received."""
    captured = CapturedTelemetry()
    yield captured
    captured.close()
