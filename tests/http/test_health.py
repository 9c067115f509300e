"""The health listener: what it tells, of whom, and that no request waits for another."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress

import asyncpg
import pytest

from tapescope import BadSetting, CannotListen, TaskManager
from tapescope.http.health import HealthListener, serve_health
from tapescope.manager.readiness import Check, LastHeartbeat, check_readiness
from tapescope.testing import until
from tests.support.scrapes import Answer, fetch
from tests.support.services import Postgres

LEASE = 30.0


def well() -> tuple[Check, ...]:
    """Checks of a process that lacks nothing."""
    return (Check("manager", True, "it takes tasks"), Check("store", True, "it answered"))


async def ask(health: HealthListener, path: str, method: str = "GET") -> Answer:
    """Ask without keeping the loop from its work."""
    return await asyncio.to_thread(fetch, f"{health.url}{path}", "", method)


# --- what is remembered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "waits", "opened", "closing", "failed"),
    [
        (None, None, False, False, {"manager", "heartbeat", "store", "migrations"}),
        (None, None, True, False, {"heartbeat", "store"}),
        (LastHeartbeat(70.0, None), None, True, False, set[str]()),
        (LastHeartbeat(69.9, None), None, True, False, {"heartbeat"}),
        (LastHeartbeat(99.0, "the store is away"), None, True, False, {"store"}),
        (LastHeartbeat(99.0, None), "the store is away", True, False, {"store"}),
        (LastHeartbeat(99.0, None), None, True, True, {"manager"}),
    ],
    ids=[
        "not opened",
        "no beat yet",
        "ready",
        "silent for a lease",
        "store away",
        "a beat waits",
        "draining",
    ],
)
def test_readiness_follows_from_facts(
    last: LastHeartbeat | None, waits: str | None, opened: bool, closing: bool, failed: set[str]
) -> None:
    """A manager is ready when it takes tasks, its store answered, and that within a lease."""
    checks = check_readiness(
        last, opened=opened, closing=closing, now=100.0, lease=LEASE, waits=waits
    )

    assert {check.name for check in checks if not check.ok} == failed
    assert all(check.detail for check in checks)


# --- the paths ------------------------------------------------------------------------------------


def test_paths_answer() -> None:
    """``/livez`` and ``/readyz`` are 200 when all is well; ``?verbose`` has a line a check."""
    with HealthListener(well, port=0) as health:
        live = fetch(f"{health.url}/livez")
        ready = fetch(f"{health.url}/readyz")
        verbose = fetch(f"{health.url}/readyz?verbose")
        head = fetch(f"{health.url}/readyz", method="HEAD")

    assert (live.status, live.text) == (200, "ok\n")
    assert (ready.status, ready.text) == (200, "ok\n")
    assert verbose.text == "[+] manager: it takes tasks\n[+] store: it answered\nok\n"
    assert (head.status, head.text) == (200, "")
    assert ready.headers["Cache-Control"] == "no-store"


def test_what_is_not_ready_is_named() -> None:
    """A check that fails makes ``/readyz`` 503 and names itself; ``/livez`` stays 200."""
    checks = (*well(), Check("heartbeat", False, "the last one ended 31.0 s ago"))
    with HealthListener(lambda: checks, port=0) as health:
        live = fetch(f"{health.url}/livez")
        ready = fetch(f"{health.url}/readyz")
        verbose = fetch(f"{health.url}/readyz?verbose")

    assert live.status == 200
    assert (ready.status, ready.text) == (503, "not ready: heartbeat\n")
    assert "[-] heartbeat: the last one ended 31.0 s ago\n" in verbose.text
    assert verbose.status == 503


def test_other_requests_are_answered_in_words() -> None:
    """Unknown paths, other methods, and metrics that were not configured are said to be so."""
    with HealthListener(well, port=0) as health:
        nothing = fetch(f"{health.url}/")
        post = fetch(f"{health.url}/readyz", method="POST")
        metrics = fetch(f"{health.url}/metrics")

    assert (nothing.status, "/readyz" in nothing.text) == (404, True)
    assert (post.status, post.headers["Allow"]) == (405, "GET, HEAD")
    assert (metrics.status, "reader" in metrics.text) == (404, True)


def test_a_scrape_that_fails_is_an_error_with_its_log(caplog: pytest.LogCaptureFixture) -> None:
    """Metrics that raise are a 500, with the traceback in the log and not in the answer."""

    def fail(environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        raise RuntimeError("the sensor is gone")

    with HealthListener(well, metrics=fail, port=0) as health:
        answer = fetch(f"{health.url}/metrics")

    assert answer.status == 500
    assert "sensor" not in answer.text
    assert "the sensor is gone" in caplog.text


# --- the listener ---------------------------------------------------------------------------------


def test_it_listens_on_this_machine_only() -> None:
    """Unless told otherwise it is bound to 127.0.0.1; another host must be named."""
    with HealthListener(well, port=0) as health, HealthListener(well, host="::1", port=0) as six:
        over_six = fetch(f"{six.url}/livez")

        assert health.url == f"http://127.0.0.1:{health.port}"
        assert six.url == f"http://[::1]:{six.port}"
        assert over_six.status == 200


def test_a_port_that_is_taken_is_said_with_the_option() -> None:
    """Two listeners never share a port, and the error names the option to change."""
    with HealthListener(well, port=0) as first:
        second = HealthListener(well, port=first.port, option="--metrics-port")
        with pytest.raises(CannotListen) as raised:
            second.open()
        second.close()

    assert f"127.0.0.1 port {first.port}: Address already in use" in str(raised.value)
    assert "Choose another --metrics-port; 0 takes a free one." in str(raised.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a" * 64 + ".example"])
def test_a_host_of_no_use_is_said(host: str) -> None:
    """A name that leads nowhere, or another machine's address, is an error of ours."""
    with pytest.raises(CannotListen, match=host[:20]):
        HealthListener(well, host=host, port=0).open()


def test_a_port_out_of_range_is_refused_before_it_is_opened() -> None:
    """The error names the option and what it may be."""
    with pytest.raises(BadSetting, match="port is 65536; it must be a port from 0 to 65535"):
        HealthListener(well, port=65_536)


def test_open_and_close_may_be_called_twice() -> None:
    """A second open keeps the port, a close before or after does nothing, and no thread is left."""
    health = HealthListener(well, port=0)
    health.close()
    health.open()
    port = health.port
    health.open()
    answered = fetch(f"{health.url}/livez").status
    health.close()
    health.close()

    assert (health.port, answered) == (port, 200)
    assert "tapescope-health" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_clients_that_dawdle_or_leave_hold_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """A connection without a request, and one that is reset, keep no other from its answer."""
    with caplog.at_level(logging.WARNING), HealthListener(well, port=0) as health:
        silent = [socket.create_connection(("127.0.0.1", health.port)) for _ in range(5)]
        with socket.create_connection(("127.0.0.1", health.port)) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.sendall(b"GET /live")
        answer = fetch(f"{health.url}/livez")
        for one in silent:
            one.close()

    assert answer.status == 200
    assert caplog.records == []


def test_200_slow_clients_keep_no_probe_from_its_answer() -> None:
    """Who never ends a request gives way to who sends one, however many there are."""
    with HealthListener(well, port=0) as health, ExitStack() as held:
        for number in range(200):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", health.port)))
            with suppress(OSError):  # it gave way already
                slow.sendall(b"GET /livez HTTP/1.0\r\nX-Slow: " + str(number).encode())
        answers = [fetch(f"{health.url}{path}").status for path in ("/livez", "/readyz") * 5]

    assert answers == [200] * 10


def test_more_than_it_can_answer_at_once_is_turned_away() -> None:
    """Where all places are taken by requests that are answered, one more is closed at once."""
    inside, go = threading.Semaphore(0), threading.Event()

    def answer_late() -> tuple[Check, ...]:
        inside.release()
        go.wait(60)
        return well()

    with HealthListener(answer_late, port=0) as health, ExitStack() as held:
        asking = [
            held.enter_context(socket.create_connection(("127.0.0.1", health.port), timeout=60))
            for _ in range(32)
        ]
        for one in asking:
            one.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert all(inside.acquire(timeout=60) for _ in asking)
        with socket.create_connection(("127.0.0.1", health.port), timeout=30) as refused:
            refused.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            try:
                answer = refused.recv(100)
            except ConnectionResetError:
                answer = b""
        go.set()
        answers = [one.recv(12) for one in asking]

        def answers_again() -> bool:
            try:
                return fetch(f"{health.url}/livez").status == 200
            except OSError:
                return False

        asyncio.run(until(answers_again))

    assert answer == b""
    assert set(answers) == {b"HTTP/1.0 200"}


# --- a manager ------------------------------------------------------------------------------------


async def test_a_managers_life_is_told(store_url: str) -> None:
    """Not ready before it is open, ready after its first heartbeat, not while it drains."""
    manager = TaskManager(store_url)
    go_on = asyncio.Event()

    async def wait(report: object) -> None:
        await go_on.wait()

    with serve_health(manager, port=0) as health:
        before = await ask(health, "/readyz?verbose")
        async with manager:
            await until(lambda: fetch(f"{health.url}/readyz").status == 200)
            task = await manager.submit("wait", wait)
            closing = asyncio.create_task(manager.aclose())
            draining = await until(lambda: _refusal(health))
            go_on.set()
            await closing
        await task.result()
        after = await ask(health, "/readyz")

    assert "[-] manager: not open yet" in before.text
    assert "[-] migrations: not looked at yet" in before.text
    assert draining == "not ready: manager\n"
    assert (after.status, after.text) == (503, "not ready: manager\n")


def _refusal(health: HealthListener) -> str | None:
    answer = fetch(f"{health.url}/readyz")
    return answer.text if answer.status == 503 else None


async def test_a_blocked_loop_is_still_answered(sqlite_url: str) -> None:
    """A scrape that is made on the loop's own thread, which waits for it, gets its answer."""
    async with TaskManager(sqlite_url) as manager:
        with serve_health(manager, port=0) as health:
            answer = fetch(f"{health.url}/livez")

    assert answer.status == 200


async def test_it_never_waits_for_the_database(
    postgres_server: Postgres, postgres_url: str
) -> None:
    """While the database does not answer, readiness is told all the same, and turns to 503.

    First for what its store is away for, then for a heartbeat that does not end.
    """
    schema = postgres_url.partition("schema=")[2]
    connection = await asyncpg.connect(postgres_server.dsn)
    try:
        async with TaskManager(postgres_url, lease=0.6, heartbeat=0.1) as manager:
            with serve_health(manager, port=0) as health:
                await until(lambda: fetch(f"{health.url}/readyz").status == 200)
                async with connection.transaction():
                    await connection.execute(f'LOCK TABLE "{schema}".tasks')
                    late = await until(lambda: _refusal(health))
                await until(lambda: fetch(f"{health.url}/readyz").status == 200)
    finally:
        await connection.close()

    assert late in ("not ready: store\n", "not ready: heartbeat\n", "not ready: heartbeat, store\n")
