"""One request and its answer over HTTP, for asyncio and with calls that block.

The verbs are written once, on ``Wire``. With ``BlockingWire`` no method of it ever suspends, so a
coroutine of theirs runs to its end in one step: ``run_blocking`` (docs/decisions/0075).
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Generator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import httpx

from tapescope.client.address import Address
from tapescope.errors import ClientClosed, WouldBlockLoop
from tapescope_telemetry import __version__

__all__ = [
    "AsyncioWire",
    "BlockingWire",
    "Broken",
    "Reply",
    "Request",
    "Wire",
    "iterate_blocking",
    "run_blocking",
]

T = TypeVar("T")

_CHUNK: Final = 65_536
_FOREVER: Final = 100_000.0
"""Seconds that no request of ours waits for: more than that is for ever."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    silence: float = 30.0
    """Seconds without a byte after which the server is given up; infinite for no limit."""
    can_be_sent_again: bool = True
    """Whether to send it twice does what to send it once does."""


class Reply(ABC):
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]

    @abstractmethod
    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, decoded. Raises ``Broken``."""


class Broken(Exception):
    """A connection that was not made, or was lost; ``sent`` where the request may be there."""

    def __init__(self, why: str, *, sent: bool) -> None:
        self.why, self.sent = why, sent
        super().__init__(why)


class Wire(ABC):
    """The way to one server. Redirects are not followed, so that no token goes elsewhere."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._closed = False

    @abstractmethod
    def open(self, request: Request) -> AbstractAsyncContextManager[Reply]:
        """Send a request; the answer is open inside. Raises ``Broken``, ``ClientClosed``."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection. May be called twice."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def _require_open(self) -> None:
        if self._closed:
            raise ClientClosed(self.address.url)

    def _find_settings(self) -> dict[str, Any]:
        """What httpx is given.

        What goes to this machine goes through no proxy that the environment names, which would be
        shown the token.
        """
        return {
            "auth": _Bearer(self.address.token),
            "follow_redirects": False,
            "headers": {"User-Agent": f"tapescope/{__version__}", "Accept-Encoding": "identity"},
            "trust_env": not self.address.is_local,
            "verify": not self.address.is_local,  # http: certificates need not be read
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def _describe(self, request: Request) -> dict[str, Any]:
        limit = None if math.isinf(request.silence) else request.silence
        return {
            "method": request.method,
            "url": self.address.url + request.path,
            "params": request.query or None,
            "headers": dict(request.headers),
            "content": request.body,
            "timeout": httpx.Timeout(limit, connect=min(limit or 10.0, 10.0)),
        }


class _Bearer(httpx.Auth):
    """Puts the token on a request when it is sent; no ``repr`` shows it."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "Bearer ***"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """As httpx asks for it."""
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class _AsyncioReply(Reply):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer
        self.status, self.headers = answer.status_code, answer.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._answer.aiter_bytes():
                yield chunk
        except (httpx.RequestError, httpx.StreamError) as error:
            raise Broken(_explain(error), sent=True) from error


class AsyncioWire(Wire):
    """For asyncio."""

    _http: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        """As ``Wire`` has it."""
        self._require_open()
        if self._http is None:
            self._http = httpx.AsyncClient(**self._find_settings())
        http = self._http
        try:
            # Beside the silence, which a byte now and then breaks, all of the head has a limit.
            async with asyncio.timeout(min(request.silence, _FOREVER)):
                answer = await http.send(http.build_request(**self._describe(request)), stream=True)
        except (httpx.RequestError, TimeoutError, RuntimeError) as error:
            self._require_open()  # a RuntimeError: it was closed meanwhile
            if isinstance(error, RuntimeError):
                raise
            raise Broken(_explain(error), sent=_was_sent(error)) from error
        try:
            yield _AsyncioReply(answer)
        finally:
            await answer.aclose()

    async def pause(self, seconds: float) -> None:
        """As ``Wire`` has it."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """As ``Wire`` has it."""
        self._closed = True
        if self._http is not None:
            await self._http.aclose()


class _BlockingReply(Reply):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer
        self.status, self.headers = answer.status_code, answer.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self._answer.iter_bytes():
                yield chunk
        except (httpx.RequestError, httpx.StreamError) as error:
            raise Broken(_explain(error), sent=True) from error


class BlockingWire(Wire):
    """With calls that block: nothing that is awaited here suspends. Any thread may use it, and a
    forked child."""

    _http: httpx.Client | None = None

    def __init__(self, address: Address, *, block_loop: bool) -> None:
        super().__init__(address)
        self._block_loop = block_loop
        self._pid = os.getpid()
        self._making = threading.Lock()

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncGenerator[Reply]:
        """As ``Wire`` has it."""
        self._require_open()
        if not self._block_loop and _is_in_loop():
            raise WouldBlockLoop("a Client", "SyncClient")
        with self._making:
            if self._http is None or self._pid != os.getpid():
                # The connections that a forked child finds are its parent's: it makes its own.
                self._http, self._pid = httpx.Client(**self._find_settings()), os.getpid()
            http = self._http
        try:
            answer = http.send(http.build_request(**self._describe(request)), stream=True)
        except (httpx.RequestError, RuntimeError) as error:
            self._require_open()  # a RuntimeError: it was closed meanwhile
            if isinstance(error, RuntimeError):
                raise
            raise Broken(_explain(error), sent=_was_sent(error)) from error
        try:
            yield _BlockingReply(answer)
        finally:
            answer.close()

    async def pause(self, seconds: float) -> None:
        """As ``Wire`` has it."""
        time.sleep(seconds)  # noqa: ASYNC251  # the caller's own thread waits, and no loop

    async def close(self) -> None:
        """As ``Wire`` has it."""
        self._closed = True
        if self._http is not None:
            self._http.close()


def run_blocking(work: Awaitable[T]) -> T:
    """Run a coroutine of the verbs on a ``BlockingWire`` to its end, in this thread."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    steps.close()
    raise AssertionError("on a wire that blocks nothing suspends")


def iterate_blocking(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """What an async generator of the verbs on a ``BlockingWire`` gives, as a plain generator."""
    try:
        while True:
            try:
                item = run_blocking(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_blocking(items.aclose())


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _was_sent(error: Exception) -> bool:
    """Whether the server may have the request."""
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _explain(error: BaseException) -> str:
    """What went wrong, as the operating system says it where it did."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return (os.strerror(cause.errno) if cause.errno > 0 else cause.strerror).lower()
        if isinstance(cause, BaseExceptionGroup):
            cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
        else:
            cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "it did not answer in time"
    text = str(error).strip()
    return text[:200] or type(error).__name__
