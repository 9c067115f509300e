"""The application: ``uvicorn exports.web:app``."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from exports.tasks import ops, pack
from tapescope import CancelState, ManagerClosed, TaskHandle, TaskManager, TaskStatus, UnknownTask
from tapescope.http.api import make_app

FOLDERS = Path(os.environ.get("EXPORTS_FOLDERS", "folders"))
ARCHIVES = Path(os.environ.get("EXPORTS_ARCHIVES", "archives"))

# It connects to nothing yet, so a module may have it; a test gives it another store.
manager = TaskManager(os.environ.get("EXPORTS_STORE", "sqlite:///exports.db"), ops=ops, drain=5)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """The manager is open, and works, as long as the application serves."""
    async with manager:
        yield


app = FastAPI(title="Exports", lifespan=lifespan)
app.mount("/tasks", make_app(manager))  # every task in a browser, for this machine alone


class Export(BaseModel):
    """What is asked for: a folder by its name."""

    folder: str = Field(pattern=r"^\w[\w-]*$", max_length=100)


async def find(task_id: str) -> TaskHandle:
    """The task of a path; ``UnknownTask`` where there is none."""
    task = manager.handle(task_id)
    await task.status()
    return task


Found = Annotated[TaskHandle, Depends(find)]


@app.exception_handler(UnknownTask)
async def answer_unknown(request: Request, error: UnknownTask) -> JSONResponse:
    """A task that is not there, wherever it was asked for."""
    return JSONResponse({"detail": str(error)}, status_code=404)


@app.post("/exports", status_code=201)
async def begin(
    export: Export, response: Response, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, str]:
    """Submit the task. The same key again gives the same task, with 200."""
    submit = pack.options(idempotency_key=idempotency_key)
    task = await submit.submit(
        folder=str(FOLDERS / export.folder), archive=str(ARCHIVES / f"{export.folder}.zip")
    )
    if not task.created:
        response.status_code = 200
    return {"id": task.task_id}


@app.get("/exports/{task_id}")
async def show(found: Found) -> dict[str, Any]:
    """How far it is."""
    task = await found.status()
    return {"id": task.task_id, "status": task.status, "attempt": task.attempt}


@app.get("/exports/{task_id}/events", response_class=EventSourceResponse)
async def follow(
    found: Found, last_event_id: Annotated[int, Header()] = 0
) -> AsyncIterator[ServerSentEvent]:
    """The tape, live. A browser that comes again goes on after the last event that it has."""
    try:
        async for event in found.follow(last_event_id):
            yield ServerSentEvent(data=event.body, event=event.type, id=str(event.seq))
    except ManagerClosed:
        return  # this process ends; the client comes again, to the next one


@app.post("/exports/{task_id}/cancel")
async def cancel(found: Found) -> dict[str, CancelState]:
    """Have it stopped. It is recorded when this has answered, whichever process runs the task."""
    answer = await found.cancel("the user pressed stop")
    return {"state": answer.state}


@app.get("/exports/{task_id}/archive")
async def download(found: Found) -> Response:
    """The archive, once it is there."""
    task = await found.status()
    if task.status is not TaskStatus.SUCCEEDED:
        return JSONResponse({"detail": f"The export is {task.status}."}, status_code=409)
    return FileResponse(str(task.params["archive"]))
