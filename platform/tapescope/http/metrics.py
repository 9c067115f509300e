"""What one process is scraped by while a command runs: its metrics and its health on a port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, Self

from tapescope.http.health import HealthListener
from tapescope.manager.readiness import Check

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["MetricsListener"]


_RELAYED_WITHIN: Final = 5.0
"""Seconds that the process behind a relay may take for a scrape."""


class Watched(Protocol):
    """What knows whether a process does its work."""

    def check_health(self) -> Sequence[Check]:
        """The checks of it; any thread may ask."""
        ...


class MetricsListener:
    """A health listener with a Prometheus reader of its own. Use it inside ``with``.

    Hand ``readers`` to what sets telemetry up. The listener is open before there is a manager, so
    that a store which does not answer is seen, too; from ``watch`` on the manager says what is
    ready. Without a port the listener does nothing.
    """

    def __init__(self, host: str, port: int | None, *, option: str = "port") -> None:
        """Check the address; bind nothing. ``option`` is what an error tells the user to change.

        Raises ``BadSetting``, and ``MissingTelemetryExtra`` where the extra ``prometheus`` is not
        installed.
        """
        self.readers: tuple[PrometheusReader, ...] = ()
        """What reads the metrics of the process."""
        self._watched: Watched | None = None
        self._listener: HealthListener | None = None
        self._on_scrape: Callable[[], None] | None = None
        self._relayed: str | None = None
        if port is None:
            return
        from tapescope_telemetry.prometheus import PrometheusReader

        reader = PrometheusReader()
        self.readers = (reader,)
        self._listener = HealthListener(
            self._check, metrics=self._note_scrape(reader), host=host, port=port, option=option
        )

    @property
    def url(self) -> str | None:
        """Where it listens, once it is open; ``None`` without a port."""
        return None if self._listener is None else self._listener.url

    def watch(self, watched: Watched) -> None:
        """From now on this manager, or exporter, says whether the process is ready."""
        self._watched = watched

    def relay(self, url: str | None) -> None:
        """Answer scrapes with what another process's listener at ``url`` tells; ``None``: no more.

        For a drill: to who scrapes, that process is this one.
        """
        self._relayed = None if url is None else f"{url}/metrics"

    async def wait_for_scrape(self, within: float) -> bool:
        """Wait for the next scrape; whether it came within these seconds.

        ``False`` at once without a port.
        """
        if self._listener is None:
            return False
        loop = asyncio.get_running_loop()
        scraped = asyncio.Event()
        self._on_scrape = lambda: _call_from_thread(loop, scraped.set)
        try:
            async with asyncio.timeout(within):
                await scraped.wait()
        except TimeoutError:
            return False
        finally:
            self._on_scrape = None
        return True

    def _note_scrape(self, reader: WSGIApplication) -> WSGIApplication:
        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            relayed = self._relayed
            if relayed is None:
                answered = reader(environ, start_response)
            else:
                answered = _fetch(relayed, environ, start_response)
            note = self._on_scrape if relayed == self._relayed else None  # not of a process before
            if note is not None and environ["REQUEST_METHOD"] == "GET":
                note()
            return answered

        return answer

    def __enter__(self) -> Self:
        """Listen. Raises ``CannotListen``."""
        if self._listener is not None:
            self._listener.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    def _check(self) -> Sequence[Check]:
        if self._watched is None:
            return (Check("manager", False, "the store is not open yet"),)
        return self._watched.check_health()


def _fetch(url: str, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The answer of ``url``, or a 502 where there is none."""
    import urllib.request  # a command that relays nothing starts without it

    asked = urllib.request.Request(url, headers={"Accept": environ.get("HTTP_ACCEPT", "*/*")})
    try:
        with urllib.request.urlopen(asked, timeout=_RELAYED_WITHIN) as answer:
            body: bytes = answer.read()
            kind: str = answer.headers["Content-Type"]
    except OSError:
        start_response("502 Bad Gateway", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"the process behind this port does not answer\n"]
    start_response("200 OK", [("Content-Type", kind)])
    return [body]


def _call_from_thread(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Have the loop call ``act``; for the listener's thread."""
    with suppress(RuntimeError):  # the loop is closed: nothing waits for the scrape any more
        loop.call_soon_threadsafe(act)
