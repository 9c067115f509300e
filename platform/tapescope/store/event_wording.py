"""What an event of a tape says to a person, alike on a terminal and on a page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, cast

import orjson

from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.showing import make_printable
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    LOG,
    MESSAGE_TAKEN,
    PROGRESS,
    TASK_STARTED,
    Event,
)
from tapescope.model.times import parse_time
from tapescope.model.wording import describe_caller, format_duration, format_local, name_error

__all__ = ["describe_event", "explain_event", "tell_of_command"]


def describe_event(event: Event) -> str:
    """What an event says, in one line; JSON where it is a user's own."""
    if event.damage:
        return f"damaged: {make_printable(event.damage)}"
    body = event.body
    if isinstance(body, dict):
        try:
            return _describe_body(event, cast("dict[str, Any]", body))
        except (KeyError, TypeError, ValueError):
            pass  # a body of a user's own under a name of the platform: shown as it is
    return "" if body is None else orjson.dumps(body).decode()


def explain_event(event: Event) -> list[str]:
    """The rest of a failure's message and its traceback, a printable line each."""
    error: Any = _read_field(event.body, "error")
    if event.type not in (ATTEMPT_FAILED, FINAL) or not isinstance(error, dict):
        return []
    parts = cast("dict[str, Any]", error)
    _, _, more = str(parts.get("message", "")).strip().partition("\n")
    trace = str(parts.get("traceback") or "")
    text = trace if more in trace else f"{textwrap.dedent(more)}\n{trace}"
    return [make_printable(line) for line in text.splitlines() if line.strip()]


def tell_of_command(started: Event | None, *, end: Event | None, lost: bool = False) -> list[str]:
    """That a command may have outlived its task, whose wrapper was killed; else nothing.

    ``started`` is the event that has its process id, and ``end`` is what may be the task's end.
    """
    if end is not None and end.type == FINAL:
        error: Any = _read_field(end.body, "error")
        lost = _read_field(error, "code") == WORKER_LOST
    if started is None or not lost:
        return []
    return [f"its command, process {_read_field(started.body, 'pid')}, may still run"]


def _read_field(body: Any, name: str) -> Any:
    """``None`` where a body of somebody's own has no such field."""
    return cast("dict[str, Any]", body).get(name) if isinstance(body, dict) else None


def _describe_body(event: Event, body: Mapping[str, Any]) -> str:
    if event.type == TASK_STARTED:
        return f"attempt {body['attempt']} by {body['owner']}"
    if event.type == LOG and "line" in body:
        return f"{body['stream']}: {body['line']}" + (" …" if body.get("continued") else "")
    if event.type == LOG:
        return f"{body['level']}: {body['message']}"
    if event.type == PROGRESS:
        total = "" if body["total"] is None else f"/{body['total']:g}"
        return f"{body['phase']} {body['current']:g}{total}"
    if event.type == MESSAGE_TAKEN:
        return f"message {body['n']} ({body['key']}): {orjson.dumps(body['body']).decode()}"
    if event.type == ATTEMPT_RELEASED:
        return str(body["message"])
    if event.type == ATTEMPT_FAILED:
        return _describe_failed_attempt(event, body)
    if event.type == FINAL:
        return _describe_final(body)
    raise KeyError(event.type)


def _describe_failed_attempt(event: Event, body: Mapping[str, Any]) -> str:
    """Which attempt failed, with what, and when the next one is due."""
    told = f"attempt {event.attempt} failed: {_describe_error(body['error'])}"
    if "run_at" not in body:  # the run was lost: another may begin at once
        return f"{told}. The task is due again"
    due = parse_time(body["run_at"])
    wait = format_duration(max(0, due - event.ts_us) / 1e6)
    why = f" ({body['why']})" if body.get("why") else ""
    return f"{told}. Next try in {wait}, at {format_local(due)[11:]}{why}"


def _describe_final(body: Mapping[str, Any]) -> str:
    words = [str(body["outcome"])]
    if (cancel := body.get("cancel")) is not None:
        caller = describe_caller(cancel["by"], cancel.get("role"))
        why = [part for part in (str(cancel["reason"]), caller, str(cancel["message"])) if part]
        words.append(f"({', '.join(why)})")
    if (error := body.get("error")) is not None:
        words[-1] += ":"
        words.append(_describe_error(error))
        if (why := _read_field(error.get("details"), "not_retried")) is not None:
            words.append(f"(not retried: {why})")
    if body.get("result") is not None:
        words.append(orjson.dumps(body["result"]).decode())
    return " ".join(words)


def _describe_error(error: Mapping[str, Any]) -> str:
    first, _, _ = str(error["message"]).strip().partition("\n")
    return f"{name_error(error['code'])}: {first}".rstrip(": ")
