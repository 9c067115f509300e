"""What a schedule is made of, checked, and how what the code says meets what the store has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tapescope.errors import BadSetting
from tapescope.model.schedules import CatchUp, Overlap, Schedule, ScheduleOrigin
from tapescope.model.tasks import is_op
from tapescope.schedules.timing import Timing
from tapescope.store.validation import (
    check_choice,
    check_expiry,
    check_op,
    check_params,
    check_priority,
    check_queue,
    check_retries,
    check_seconds,
    check_tags,
)

__all__ = ["check_name", "define", "is_declared_so", "merge"]


def check_name(name: object) -> str:
    """A schedule's name as plain text. Raises ``BadSetting``."""
    if not is_op(name):
        raise BadSetting(
            "name",
            name,
            "1 to 128 of A-Z, a-z, 0-9, '_', '.', '-', the first a letter or '_'",
        )
    return str.__str__(name)  # pyright: ignore[reportArgumentType]  # is_op takes text alone


def define(
    name: str,
    op: str,
    params: Mapping[str, Any],
    *,
    timeout: float | None = None,
    retries: int | None = None,
    priority: int | None = None,
    tags: Collection[str] = (),
    queue: str | None = None,
    expires_in: float | None = None,
    cron: str | None = None,
    every: float | None = None,
    time_zone: str = "UTC",
    catch_up: str = CatchUp.ONE,
    overlap: str = Overlap.ALLOW,
    origin: ScheduleOrigin = ScheduleOrigin.STORE,
) -> Schedule:
    """A schedule without a next firing time yet. Raises ``BadSetting``, ``BadOp``, ``BadParams``.

    One whose expression fires never, such as that of the 30th of February, is refused.
    """
    timing = Timing(cron, every, time_zone)
    if timing.find_next(0) is None:
        raise BadSetting("cron", cron, "an expression that fires at some time")
    return Schedule(
        check_name(name),
        check_op(op),
        check_params(params),
        None if timeout is None else check_seconds("timeout", timeout, over_zero=True),
        None if retries is None else check_retries(retries),
        cron,
        None if every is None else float(every),
        time_zone,
        check_choice("catch_up", CatchUp, catch_up),
        check_choice("overlap", Overlap, overlap),
        origin,
        priority=None if priority is None else check_priority(priority),
        tags=check_tags(tags),
        queue=None if queue is None else check_queue(queue),
        expires_in=None if expires_in is None else check_expiry(expires_in),
    )


def is_declared_so(declared: Schedule, kept: Schedule) -> bool:
    """Whether the store has of a schedule what is declared: the op, the params, the times and the
    policies, wherever they were written down."""
    return merge(replace(declared, origin=kept.origin), kept, 0) is None


def merge(declared: Schedule, kept: Schedule, now: int) -> Schedule | None:
    """What the store is to have of a schedule that the code declares; ``None``: it has it.

    The code says when and what. Whether it is paused, and what was fired, is the store's. Its next
    time stays unless the times have changed: those are reckoned from now on.
    """
    wanted = replace(
        kept,
        op=declared.op,
        params=declared.params,
        timeout=declared.timeout,
        retries=declared.retries,
        priority=declared.priority,
        tags=declared.tags,
        queue=declared.queue,
        expires_in=declared.expires_in,
        cron=declared.cron,
        every=declared.every,
        time_zone=declared.time_zone,
        catch_up=declared.catch_up,
        overlap=declared.overlap,
        origin=declared.origin,
    )
    if wanted == kept:
        return None
    times = ("cron", "every", "time_zone")
    if any(getattr(wanted, name) != getattr(kept, name) for name in times):
        wanted = replace(wanted, next_us=Timing.of(wanted).find_next(now))
    return wanted
