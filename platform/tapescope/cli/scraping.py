"""``--metrics-port``: what a command tells Prometheus while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tapescope.http.health import HealthListener
from tapescope.manager.readiness import Check

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from tapescope.manager.manager import TaskManager
    from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["PORT_OPTION", "Scrape"]

PORT_OPTION = "--metrics-port"


class Scrape:
    """The listener of one command. Use it inside ``with``, and inside ``exporting(*readers)``.

    It listens before there is a manager, so that a store which does not answer is seen, too; from
    ``watch`` on the manager says what is ready. Without a port it does nothing.
    """

    def __init__(self, host: str, port: int | None) -> None:
        """Raises ``BadSetting``, and ``MissingTelemetryExtra``."""
        self.readers: tuple[PrometheusReader, ...] = ()
        """What the metrics are to be read by."""
        self._manager: TaskManager | None = None
        self._listener: HealthListener | None = None
        self._on_scrape: Callable[[], None] | None = None
        if port is None:
            return
        from tapescope_telemetry.prometheus import PrometheusReader

        reader = PrometheusReader()
        self.readers = (reader,)
        self._listener = HealthListener(
            self._check, metrics=self._note_scrape(reader), host=host, port=port, option=PORT_OPTION
        )

    @property
    def url(self) -> str | None:
        """Where it listens, once it does; ``None`` where it was given no port."""
        return None if self._listener is None else self._listener.url

    def watch(self, manager: TaskManager) -> None:
        """From now on this manager says whether the command is ready."""
        self._manager = manager

    async def wait_for_scrape(self, within: float) -> bool:
        """Wait until somebody has scraped it from now on; whether it was so within these seconds.

        ``False`` at once where it listens on no port.
        """
        if self._listener is None:
            return False
        loop = asyncio.get_running_loop()
        scraped = asyncio.Event()
        self._on_scrape = lambda: _call(loop, scraped.set)
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
            answered = reader(environ, start_response)
            if (told := self._on_scrape) is not None:
                told()
            return answered

        return answer

    def __enter__(self) -> Self:
        """Raises ``CannotListen``."""
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

    def _check(self) -> tuple[Check, ...]:
        if self._manager is None:
            return (Check("manager", False, "the store is not open yet"),)
        return self._manager.check_health()


def _call(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """From the listener's thread."""
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(act)
