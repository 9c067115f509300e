"""Fixtures of the tests of the PostgreSQL store."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.services import Postgres
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def proxy(postgres_server: Postgres) -> AsyncGenerator[TcpProxy]:
    """A proxy before the server of the tests."""
    async with TcpProxy(postgres_server.socket_folder / ".s.PGSQL.5432") as proxy:
        yield proxy
