"""Fixtures: a server for the session, and one of a test's own, which it may kill."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from tests.temporal.server import TemporalProcess

pytestmark = pytest.mark.temporal


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalProcess]:
    """A real server for the session: many stores share its namespace."""
    server = TemporalProcess(tmp_path_factory.mktemp("temporal"))
    server.start()
    try:
        asyncio.run(server.wait_up())
        yield server
    finally:
        server.kill()


@pytest.fixture
def engine_url(shared_server: TemporalProcess) -> str:
    """The URL of the session's server."""
    return shared_server.url


@pytest_asyncio.fixture
async def client(shared_server: TemporalProcess) -> Client:
    """The test's own client of the session's server: what an operator has."""
    return await Client.connect(shared_server.target)


@pytest_asyncio.fixture
async def own_server(tmp_path: Path) -> AsyncGenerator[TemporalProcess]:
    """A server that the test may kill."""
    logging.getLogger("tapescope.temporal").setLevel(logging.ERROR)
    server = TemporalProcess(tmp_path / "temporal")
    server.start()
    try:
        await server.wait_up()
        yield server
    finally:
        server.kill()
