"""Asking an API in this process, or one that is really served on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Limits, Response

from tapescope.http.api import ApiServer

__all__ = ["Frame", "asking", "follow", "problem_of", "read_frames", "serving"]

HOST = "http://localhost"


@asynccontextmanager
async def asking(
    app: FastAPI, *, token: str | None = None, base: str = HOST
) -> AsyncGenerator[AsyncClient]:
    """A client of an application in this process."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with AsyncClient(transport=ASGITransport(app), base_url=base, headers=headers) as client:
        yield client


@asynccontextmanager
async def serving(
    app: FastAPI, port: int = 0, root_path: str = ""
) -> AsyncGenerator[tuple[ApiServer, AsyncClient]]:
    """A real server of the application, and a client of it."""
    server = ApiServer(app, "127.0.0.1", port, root_path=root_path)
    server.listen()
    running = asyncio.ensure_future(server.serve())
    try:
        async with AsyncClient(base_url=server.url, timeout=30, limits=Limits()) as client:
            yield server, client
    finally:
        server.drain()
        await running


@dataclass(slots=True)
class Frame:
    """What a reader makes of one frame of server-sent events."""

    type: str = "message"
    id: str | None = None
    retry: int | None = None
    data: Any = None
    comments: list[str] = field(default_factory=list[str])


def read_frames(text: str) -> list[Frame]:
    """The frames of server-sent events, by the rules of the HTML standard."""
    frames: list[Frame] = []
    for block in text.split("\n\n"):
        if not block:
            continue
        frame = Frame()
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            match name:
                case "event":
                    frame.type = value
                case "id":
                    frame.id = value
                case "retry":
                    frame.retry = int(value)
                case "data":
                    frame.data = orjson.loads(value)
                case _:
                    frame.comments.append(value)
        frames.append(frame)
    return frames


async def follow(
    client: AsyncClient, task_id: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Frame]:
    """The frames of a task's stream, as they come; ``retry`` and comments alone are left out."""
    async with client.stream(
        "GET", f"/v1/tasks/{task_id}/stream", headers=dict(headers or {})
    ) as answer:
        assert answer.status_code == 200, answer
        waiting = ""
        async for text in answer.aiter_text():
            waiting += text
            whole, end, waiting = waiting.rpartition("\n\n")
            for frame in read_frames(whole + end):
                if frame.data is not None:
                    yield frame


def problem_of(answer: Response) -> tuple[int, str]:
    """The status of a problem and the error's name."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    shape = answer.json()
    assert shape["status"] == answer.status_code
    assert set(shape) - {"arguments"} == {"type", "title", "status", "detail", "error"}
    return answer.status_code, shape["error"]
