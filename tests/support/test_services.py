"""What the other tests stand on: the polled fact, the required program, the real server."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from tapescope.testing import until
from tests.support.services import Postgres, require


async def test_until_gives_the_first_true_answer() -> None:
    """Polling ends with the first answer that is true, and gives it."""
    answers = iter(["", "", "there"])

    assert await until(lambda: next(answers)) == "there"


async def test_until_awaits_an_asynchronous_fact() -> None:
    """A fact may be a coroutine function."""

    async def fact() -> int:
        return 7

    assert await until(fact) == 7


async def test_until_fails_past_its_deadline() -> None:
    """A fact that stays false fails the test, with its last value in the message."""
    looks: Iterator[int] = iter([0] * 10)

    with pytest.raises(AssertionError, match="was still 0 after 0 s"):
        await until(lambda: next(looks), within=0)


def test_require_skips_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that this machine lacks skips the test, and the reason names it."""
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="'no-such-program' is not installed"):
        require("no-such-program")


def test_require_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is a failure where CI is set: nothing goes unseen because it was absent."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="CI must have it"):
        require("no-such-program")


async def test_postgres_is_a_durable_18(postgres_server: Postgres) -> None:
    """The server of the tests is PostgreSQL 18 and syncs its commits, as a user's would."""
    connection = await asyncpg.connect(postgres_server.dsn)
    try:
        version = await connection.fetchval("SHOW server_version_num")
        fsync = await connection.fetchval("SHOW fsync")
    finally:
        await connection.close()

    assert int(version) // 10_000 == 18
    assert fsync == "on"


def test_every_postgres_url_has_a_schema_of_its_own(postgres_server: Postgres) -> None:
    """Two tests never share a schema."""
    urls = {postgres_server.url() for _ in range(100)}

    assert len(urls) == 100
