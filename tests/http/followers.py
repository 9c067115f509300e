"""A bare client of one stream, of which there may be thousands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson

__all__ = ["AT_ONCE", "Follower", "tell"]

AT_ONCE = 100
"""Connections that are made at once: a listener has room for so many that wait."""


class Follower:
    """A bare client of one stream: HTTP/1.0, so that its body is the lines alone."""

    def __init__(self, port: int, task_id: str) -> None:
        self._port, self._task_id = port, task_id
        self.seqs: list[int] = []
        self.final_seq: int | None = None
        self.late: list[float] = []
        """Seconds from when a runner made a ``tick`` to when it was read here: on one machine."""

    async def follow(self, gate: asyncio.Semaphore) -> None:
        """Follow the task to the end of the stream."""
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(
                f"GET /v1/tasks/{self._task_id}/stream HTTP/1.0\r\nHost: localhost\r\n"
                "Accept: application/x-ndjson\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        async for line in reader:
            if not line.strip():
                continue  # a heartbeat
            shape: dict[str, Any] = orjson.loads(line)
            self.seqs.append(shape["seq"])
            self.final_seq = shape["final_seq"]
            if shape["type"] == "tick":
                self.late.append(time.monotonic() - shape["body"])
        writer.close()


def tell(what: str, followers: Sequence[Follower]) -> str:
    """How late its events were told: for a person, as nothing is held to a time."""
    late = sorted(one for follower in followers for one in follower.late)
    return (
        f"{what}: {len(late):,} events told, p50 {late[len(late) // 2] * 1e3:,.1f} ms, "
        f"p99 {late[int(len(late) * 0.99)] * 1e3:,.1f} ms"
    )
