"""``--metrics-port``: what a command tells Prometheus while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tapescope.cli.output import say
from tapescope.errors import MissingExtra
from tapescope.health import Check, HealthListener
from tapescope_telemetry.extras import MissingExtra as MissingPackages

if TYPE_CHECKING:
    from types import TracebackType

    from tapescope.manager import TaskManager
    from tapescope_telemetry import Telemetry

__all__ = ["PORT_OPTION", "Scrape"]

PORT_OPTION = "--metrics-port"


class Scrape:
    """The listener of one command, and the telemetry that it tells of. Use it inside ``with``.

    It listens before there is a manager, so that a store which does not answer is seen, too; from
    ``watch`` on the manager says what is ready. Without a port it does nothing.
    """

    def __init__(self, host: str, port: int | None) -> None:
        """Raises ``BadSetting``, and ``MissingExtra`` where the packages are not installed."""
        self.telemetry: Telemetry | None = None
        """What to hand to the store and the manager; ``None`` for the process's own."""
        self._manager: TaskManager | None = None
        self._listener: HealthListener | None = None
        if port is None:
            return
        try:
            from tapescope_telemetry.prometheus import PrometheusReader, make_telemetry
        except MissingPackages as error:
            raise MissingExtra(PORT_OPTION, error.extra) from error
        reader = PrometheusReader()
        self.telemetry = make_telemetry(reader)
        self._listener = HealthListener(
            self._check, metrics=reader, host=host, port=port, option=PORT_OPTION
        )

    def watch(self, manager: TaskManager) -> None:
        """From now on this manager says whether the command is ready."""
        self._manager = manager

    def __enter__(self) -> Self:
        """Raises ``CannotListen``."""
        if self._listener is not None:
            chosen = self._listener.port
            self._listener.open()
            if chosen == 0:  # nobody can know it otherwise
                say(f"metrics and health on {self._listener.url}")
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
