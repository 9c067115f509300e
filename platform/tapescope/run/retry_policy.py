"""When another attempt follows one that failed, and how long after it.

What is asked here is what a runner raised, or a ``TimeoutError`` for one that ran out of time. What
the platform itself calls for good (a result that is not JSON, an exit) is not asked about, and a
lost worker costs a retry whatever a policy says: nobody is there to ask it.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from tapescope.errors import BadSetting, GiveUp, Retry
from tapescope.model.error_codes import BAD_PARAMS
from tapescope.model.ops import DEFAULT_RETRIES
from tapescope.store.validation import check_retries, check_seconds, check_share
from tapescope_telemetry import error_type_of
from tapescope_telemetry.failures import is_a, list_parts
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.tasks import Task
    from tapescope.run.outcome import Verdict

__all__ = ["Refusal", "RetryPlan", "RetryPolicy", "Which"]

_log = Logger("tapescope")

Which = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
"""Exceptions, as in ``except``, or a function that says of each whether it is one of them."""

_LONGEST_RETRY_WAIT: Final = 300.0
_MOST_DOUBLINGS: Final = 1_000
"""Past them a wait is over any ``most``; the power of a greater factor is not a float any more."""


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Another attempt follows."""

    wait: float
    """Seconds from now, by the clock of the store."""
    why: str
    """For people, on the tape."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No other attempt follows, although a retry is left."""

    why: str
    """For people, in the details of the ``final``; empty where the error's code says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again: for an op, or for a submit with a runner of its own.

    A group of exceptions is what its parts are: all of them must be ``on``, none of them
    ``not_on``. A timeout is a ``TimeoutError`` here. A predicate is called in the event loop; one
    that raises has not said anything, and that is logged.
    """

    times: int = DEFAULT_RETRIES
    """How often another attempt is made, where the submit says nothing."""
    delay: float | None = None
    """Seconds before the first retry; ``None`` for the manager's ``retry_delay``."""
    factor: float = 2.0
    """Each wait is so many times the one before it: 1 for waits of one length."""
    most: float = _LONGEST_RETRY_WAIT
    """Seconds that a wait grows to."""
    jitter: float = 0.5
    """The part of each wait, from 0 to 1, that chance takes away up to: what failed together does
    not come back together."""
    on: Which | None = None
    """What is retried; ``None`` for every ``Exception`` but params that are not the runner's."""
    not_on: Which = ()
    """What is not, whatever ``on`` says."""
    within: float | None = None
    """Seconds after the task was made, its delay among them, in which another attempt may begin."""

    def __post_init__(self) -> None:
        """Raises ``BadSetting``."""
        delay, within = self.delay, self.within
        checked: dict[str, Any] = {
            "times": check_retries(self.times, "times"),
            "delay": None if delay is None else check_seconds("delay", delay),
            "factor": check_seconds("factor", self.factor, over_zero=True),
            "most": check_seconds("most", self.most),
            "jitter": check_share("jitter", self.jitter),
            "within": None if within is None else check_seconds("within", within, over_zero=True),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for name, which in (("on", self.on), ("not_on", self.not_on)):
            if not (which is None and name == "on") and not _is_which(which):
                expected = "exception classes, as in 'except', or a function of an exception"
                raise BadSetting(name, which, expected)

    def plan(
        self,
        verdict: Verdict,
        task: Task,
        now: int,
        first: float,
        chance: Callable[[], float] = random.random,
    ) -> RetryPlan | Refusal:
        """What follows a failed attempt; ``now`` is the store's, in microseconds since the epoch.

        ``first`` is the wait before the first retry where the policy has none. ``chance`` gives a
        number from 0 up to 1.
        """
        error, code = verdict.retry_cause, verdict.error_code
        if error is None or task.retries_spent >= task.retries:
            return Refusal("")
        parts = _flatten(error)
        if any(is_a(part, GiveUp) for part in parts):
            return Refusal("the runner gave up")
        asked = next((part for part in parts if is_a(part, Retry)), None)
        if asked is None and not self._takes(parts, code):
            by_default = code == BAD_PARAMS and self.on is None
            said = "" if by_default else f"{error_type_of(error)} is not retried by the op's policy"
            return Refusal(said)
        wait = cast("Retry", asked).in_ if asked is not None else None
        why = f"retry {task.retries_spent + 1} of {task.retries}"
        if asked is not None:
            why += ", as the runner asked"
        if wait is None:
            wait = self.find_wait(task.retries_spent, first, chance())
        if self.within is not None and now + wait * 1e6 > task.created_us + self.within * 1e6:
            return Refusal(f"the next one would begin over {self.within:g} s after the submit")
        return RetryPlan(wait, why)

    def find_wait(self, spent: int, first: float, chance: float) -> float:
        """Seconds after an attempt when ``spent`` retries were used before it.

        ``first`` is as in ``plan``; ``chance``, from 0 up to 1, says how much ``jitter`` takes.
        """
        wait = first if self.delay is None else self.delay
        try:
            wait *= self.factor ** min(spent, _MOST_DOUBLINGS)
        except OverflowError:
            wait = self.most if wait else 0.0
        return min(self.most, wait) * (1 - self.jitter * chance)

    def _takes(self, parts: list[BaseException], code: str) -> bool:
        refused = [_is_of(part, self.not_on, otherwise=False) for part in parts]
        if any(refused):
            return False
        if self.on is None:
            return code != BAD_PARAMS
        return all(_is_of(part, self.on, otherwise=True) for part in parts)


def _is_which(which: object) -> bool:
    if isinstance(which, tuple):
        return all(_is_kind(kind) for kind in cast("tuple[object, ...]", which))
    return _is_kind(which) if inspect.isclass(which) else callable(which)


def _is_kind(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseException)


def _is_of(error: BaseException, which: Which, *, otherwise: bool) -> bool:
    """Whether it is one of these; ``otherwise`` is the answer for a predicate that raises."""
    if isinstance(which, type | tuple):
        return is_a(error, cast("tuple[type[BaseException], ...]", which))
    try:
        return bool(which(error))
    except Exception as defect:  # noqa: BLE001  # it is the caller's code: the attempt has its end all the same
        text = "The retry policy could not say whether %s is retried: its predicate raised."
        _log.error(text, error_type_of(error), error=defect)
        return otherwise


def _flatten(error: BaseException) -> list[BaseException]:
    """The exception, or those in a group of them, however deep."""
    found, waiting = list[BaseException](), [error]
    for part in waiting:
        if issubclass(type(part), BaseExceptionGroup):
            waiting += list_parts(part)
        else:
            found.append(part)
    return found
