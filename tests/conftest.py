"""Fixtures for every test: the real stores that it may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """The URL of a PostgreSQL store in a schema that only this test uses.

    The store makes the schema when it opens; it goes with the server.
    """
    return postgres_server.url()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite store in a file that only this test uses."""
    return f"sqlite:///{tmp_path / 'tasks.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store: the test runs once on SQLite and once on PostgreSQL."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store of every kind, the model in memory included."""
    if request.param == "memory":
        return "memory:"
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """A real OpenTelemetry collector for the session, and what programs sent to it."""
    with running_collector() as collector:
        yield collector
