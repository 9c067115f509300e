"""The connection to a Temporal server: settings, the first look at it, and the wait for it."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from tapescope.errors import BadEngineUrl, EngineUnavailable, EngineUnfit
from tapescope_telemetry.logger import Logger

__all__ = ["RPC_WITHIN", "Address", "Connection", "is_away"]

_log = Logger("tapescope")

RPC_WITHIN: Final = timedelta(seconds=5)
"""How long one call may take."""
_FIRST_WITHIN: Final = 3.0
"""Seconds that the opening of a manager waits for a server."""
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to reach a server that is away."""
_NEEDED: Final = "standalone_activities"
_DELAYS: Final = "standalone_activity_start_delay"
_AWAY: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNKNOWN,
    }
)
_URL: Final = re.compile(
    r"temporal://(?P<host>[^/@?#:\s]+|\[[0-9a-fA-F:.]+\])?(?::(?P<port>\d{1,5}))?"
    r"(?:/(?P<namespace>[^/?#@\s]*))?"
)
_runtimes: Final[list[Runtime]] = []
"""The SDK's own runtime, made once in a process: each has threads of its own."""


def is_away(error: RPCError) -> bool:
    """Whether another try may go well, with nothing changed."""
    return error.status in _AWAY


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and the namespace there; ``None``: as Temporal's own settings say."""

    target: str | None
    namespace: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ``BadEngineUrl``. No secret has a place in the URL: logs show it."""
        found = _URL.fullmatch(url)
        if found is None:
            why = (
                "it is not temporal://HOST:PORT/NAMESPACE. Keys and certificates come from "
                "Temporal's own settings (TEMPORAL_API_KEY, TEMPORAL_TLS…, or a profile)"
            )
            raise BadEngineUrl(url, why)
        host, port, namespace = found["host"], found["port"], found["namespace"]
        if host is None and port is not None:
            raise BadEngineUrl(url, "it has a port and no host")
        return cls(None if host is None else f"{host}:{port or 7233}", namespace or None)

    def make_settings(self) -> dict[str, Any]:
        """What a connection is made with: of the environment and its profile, and of the URL."""
        settings: dict[str, Any] = {**ClientConfig.load_client_connect_config()}
        if self.target is not None:
            settings["target_host"] = self.target
        if self.namespace is not None:
            settings["namespace"] = self.namespace
        settings.setdefault("target_host", "localhost:7233")
        settings.setdefault("namespace", "default")
        return settings


class Connection:
    """One server, as seen from the engine's thread: all of it is called there."""

    def __init__(self, address: Address) -> None:
        self._settings = address.make_settings()
        self.namespace: str = self._settings["namespace"]
        self.name = f"temporal://{self._settings['target_host']}/{self.namespace}"
        self.client: Client | None = None
        """``None`` until the server was reached for the first time."""
        self.version = ""
        self.able: dict[str, bool] = {}

    async def open(self) -> None:
        """Look for the server once. Raises ``EngineUnavailable``, ``EngineUnfit``."""
        try:
            async with asyncio.timeout(_FIRST_WITHIN):
                await self._connect()
        except TimeoutError as late:
            raise EngineUnavailable(self.name, "it does not answer") from late

    async def wait(self) -> Client:
        """The client, once the server was reached; tries until then."""
        pause, told = 0.1, ""
        while self.client is None:
            try:
                await self.open()
            except (EngineUnavailable, EngineUnfit) as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s", told)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
        if told:
            _log.info("The engine %s is reached.", self.name)
        return self.client

    async def _connect(self) -> None:
        if self.client is not None:
            return
        try:
            client = await Client.connect(**self._settings, runtime=_find_runtime())
        except RuntimeError as error:  # what the SDK raises for a server that it cannot reach
            raise EngineUnavailable(self.name, _first_line(error)) from error
        await self._check(client)
        self.client = client

    async def _check(self, client: Client) -> None:
        try:
            asked = DescribeNamespaceRequest(namespace=self.namespace)
            service = client.workflow_service
            answer = await service.describe_namespace(asked, timeout=RPC_WITHIN)
            system = await service.get_system_info(GetSystemInfoRequest(), timeout=RPC_WITHIN)
        except RPCError as error:
            if is_away(error):
                raise EngineUnavailable(self.name, _first_line(error)) from error
            if error.status is RPCStatusCode.NOT_FOUND:
                why = (
                    f"it has no namespace {self.namespace!r}. Name another one in the URL, or have "
                    "it made: temporal operator namespace create"
                )
                raise EngineUnfit(self.name, why) from error
            raise EngineUnfit(self.name, _first_line(error)) from error
        self.version = system.server_version
        able = answer.namespace_info.capabilities
        self.able = {_NEEDED: able.standalone_activities, _DELAYS: _has_delays(able)}
        if not self.able[_NEEDED]:
            why = (
                f"its server {self.version} has no standalone activities in the namespace "
                f"{self.namespace!r}. Servers from 1.32 on have them: upgrade it, or switch them on"
            )
            raise EngineUnfit(self.name, why)

    @property
    def delays(self) -> bool:
        """Whether the server waits for a task's time by itself."""
        return self.able.get(_DELAYS, False)


def _has_delays(able: Any) -> bool:
    return bool(getattr(able, _DELAYS, False))


def _find_runtime() -> Runtime:
    """Logs of the SDK go through Python's logging, never to stdout: a pipe that nobody reads would
    block its core."""
    if not _runtimes:
        forwarding = LogForwardingConfig(
            logger=logging.getLogger("tapescope.temporal"), append_target_to_name=False
        )
        config = LoggingConfig(filter=LoggingConfig.default.filter, forwarding=forwarding)
        _runtimes.append(Runtime(telemetry=TelemetryConfig(logging=config)))
    return _runtimes[0]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
