"""``Submission``: one task to submit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from tapescope.errors import BadSetting
from tapescope.model.frozen import quickly_made
from tapescope.run import RetryPolicy, TypedValues
from tapescope.store.validation import (
    check_expiry,
    check_flag,
    check_key,
    check_op,
    check_params,
    check_priority,
    check_queue,
    check_retries,
    check_seconds,
    check_tags,
    check_time,
)

if TYPE_CHECKING:
    from tapescope.clock import Clock

__all__ = ["Submission", "check_policy"]

R_co = TypeVar("R_co", covariant=True, default=Any)


def check_policy(policy: object, retries: int | None) -> int:
    """How often another attempt is made by this policy. Raises ``BadSetting``."""
    if not isinstance(policy, RetryPolicy):
        raise BadSetting("retry", policy, "a RetryPolicy")
    if retries is not None:
        raise BadSetting("retries", retries, "None beside retry: say RetryPolicy(times=…)")
    return policy.times


def _check_context(context: object, runner: object) -> Context:
    if runner is None or not isinstance(context, Context):
        expected = "None, or for a runner of your own what contextvars.copy_context() gives"
        raise BadSetting("context", context, expected)
    return context


@quickly_made
@dataclass(frozen=True, slots=True)
class Submission(Generic[R_co]):
    """One task for ``TaskManager.submit_many``; the fields are those of ``submit``.

    ``R_co`` is what its runner returns, where ``Op.bind`` made it.
    """

    op: str
    runner: Callable[..., Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    idempotency_key: str | None = None
    retries: int | None = None
    delay: float | None = None
    run_at: datetime | None = None
    retry: RetryPolicy | None = None
    priority: int | None = None
    tags: Collection[str] = ()
    detached: bool = False
    cancel_with_parent: bool = False
    unique_key: str | None = None
    concurrency_key: str | None = None
    queue: str | None = None
    expires_in: float | None = None
    context: Context | None = None
    types: TypedValues | None = field(default=None, repr=False, compare=False)
    """What the op's annotations say of its values, where ``Op.bind`` made it."""

    def checked(self) -> Submission[R_co]:
        """The same with plain numbers and texts, and params of its own.

        Raises ``BadOp``, ``BadParams`` or ``BadSetting`` for an error that can be seen without the
        store.
        """
        if self.delay is not None and self.run_at is not None:
            raise BadSetting("delay", self.delay, "None beside run_at")
        if self.run_at is not None:
            check_time("run_at", self.run_at)
        timeout, retries, key = self.timeout, self.retries, self.idempotency_key
        if self.retry is not None:
            retries = check_policy(self.retry, retries)
        return Submission(
            check_op(self.op),
            self.runner,
            check_params(self.params),
            None if timeout is None else check_seconds("timeout", timeout, over_zero=True),
            None if key is None else check_key(key),
            None if retries is None else check_retries(retries),
            None if self.delay is None else check_seconds("delay", self.delay),
            self.run_at,
            self.retry,
            None if self.priority is None else check_priority(self.priority),
            check_tags(self.tags),
            check_flag("detached", self.detached),
            check_flag("cancel_with_parent", self.cancel_with_parent),
            None if self.unique_key is None else check_key(self.unique_key, "unique_key"),
            None
            if self.concurrency_key is None
            else check_key(self.concurrency_key, "concurrency_key"),
            None if self.queue is None else check_queue(self.queue),
            None if self.expires_in is None else check_expiry(self.expires_in),
            None if self.context is None else _check_context(self.context, self.runner),
            self.types,
        )

    def find_due(self, clock: Clock) -> int | None:
        """When it may begin first, in microseconds since the epoch; ``None`` for at once."""
        if self.delay is not None:
            return clock.now() + round(self.delay * 1_000_000)
        if self.run_at is not None:
            return check_time("run_at", self.run_at)
        return None
