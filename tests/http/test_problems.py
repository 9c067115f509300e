"""Errors over HTTP: every error of the platform has its row, and none shows the server's inside."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from tapescope import StoreUnavailable, TapescopeError, TaskManager, errors
from tapescope.errors import (
    BadSetting,
    EventFateUnknown,
    IdempotencyConflict,
    SchemaTooOld,
    UnknownTask,
)
from tapescope.http.api import make_app
from tapescope.http.api.problems import ROWS, Refused, describe
from tests.http.client import asking, problem_of


def test_every_error_has_a_row_of_its_own() -> None:
    """An error that is new must say what it is over HTTP."""
    exported = {
        kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), TapescopeError)
    }

    assert set(ROWS) == exported
    assert all(400 <= row.status < 600 for row in ROWS.values())
    assert all(row.retry_after or row.status != 503 for row in ROWS.values())


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (StoreUnavailable("postgresql://me@db.internal/x", "refused"), 503, "Try again"),
        (EventFateUnknown(3.0), 503, "the same Idempotency-Key"),
        (SchemaTooOld(1, 2, "postgresql://me@db.internal/x"), 500, "its log says"),
        (RuntimeError("postgresql://me:secret@db.internal"), 500, "a defect"),
        (Refused(403, "Forbidden", "not you"), 403, "not you"),
    ],
)
def test_a_fault_of_the_server_is_not_shown(error: Exception, status: int, says: str) -> None:
    """What is the server's own is said in words that name neither its store nor its code."""
    shape, _ = describe(error)

    assert shape["status"] == status
    assert says in shape["detail"]
    assert "internal/" not in shape["detail"]
    assert "secret" not in shape["detail"]


def test_an_error_tells_what_its_text_is_made_of() -> None:
    """A client makes it again; what is long, and what is the server's own, is not told."""
    shown, _ = describe(IdempotencyConflict("resize", "k", "x"))
    long, _ = describe(UnknownTask("x" * 201))
    other, _ = describe(BadSetting("limit", [1], "a number"))
    own, _ = describe(StoreUnavailable("postgresql://me@db.internal/x", "refused"))

    assert shown["arguments"] == {"op": "resize", "idempotency_key": "k", "task_id": "x"}
    assert not {"arguments"} & {*long, *other, *own}


async def test_a_defect_is_a_500_with_its_traceback_in_the_log(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody foresaw is answered once, in a problem, and logged."""

    def fail(_: object) -> None:
        raise RuntimeError("the sensor is gone")

    app = make_app(TaskManager(sqlite_url), who=fail)
    async with asking(app) as client:
        answer = await client.get("/v1/tasks")

    assert problem_of(answer) == (500, "InternalError")
    assert "sensor" not in answer.text
    assert "the sensor is gone" in caplog.text


async def test_a_manager_that_is_closed_says_to_come_back(sqlite_url: str) -> None:
    """503 with Retry-After: another server may have the store open."""
    manager = TaskManager(sqlite_url)
    app: FastAPI = make_app(manager)
    async with asking(app) as client:
        answer = await client.get("/v1/tasks")

    assert problem_of(answer)[0] == 503
    assert answer.headers["Retry-After"]
