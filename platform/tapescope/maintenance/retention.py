"""``Retention``: how long a manager keeps ended tasks and late events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tapescope.errors import BadOp, BadSetting
from tapescope.model.tape import Outcome
from tapescope.model.tasks import is_op
from tapescope.store.validation import check_seconds

__all__ = ["Retention"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended tasks and late events are kept, in seconds; without an age, for good.

    A task is deleted, with its whole tape, as soon as one of the ages that apply to it is over: an
    age for an outcome or an op can only shorten that of ``tasks``. Raises ``BadSetting``, and
    ``BadOp`` for an op that is not a valid name.
    """

    tasks: float | None = None
    """Since the end of any task."""
    outcomes: Mapping[Outcome, float] = field(default_factory=dict[Outcome, float])
    """Since the end of a task with this outcome."""
    ops: Mapping[str, float] = field(default_factory=dict[str, float])
    """Since the end of a task of this op."""
    quarantine: float | None = None
    """Since a late event was offered."""
    every: float = 3_600.0
    """Seconds between two prunes."""

    def __post_init__(self) -> None:
        """Check the ages."""
        ages = {
            "retention.tasks": self.tasks,
            "retention.quarantine": self.quarantine,
            **{f"retention.outcomes[{outcome!s}]": age for outcome, age in self.outcomes.items()},
            **{f"retention.ops[{op!r}]": age for op, age in self.ops.items()},
        }
        set_ages = {name: age for name, age in ages.items() if age is not None}
        if not set_ages:
            raise BadSetting("retention", "Retention()", "one with an age at least")
        for name, age in set_ages.items():
            check_seconds(name, age)
        for outcome in self.outcomes:
            if outcome not in list(Outcome):
                raise BadSetting("retention.outcomes", outcome, "an Outcome each")
        for op in self.ops:
            if not is_op(op):
                raise BadOp(op)
        check_seconds("retention.every", self.every, over_zero=True)

    def rules(self) -> Iterator[tuple[float, Outcome | None, str | None]]:
        """(age, outcome, op) of the tasks to prune; ``None`` for any outcome or op."""
        if self.tasks is not None:
            yield self.tasks, None, None
        for outcome, age in self.outcomes.items():
            yield age, Outcome(outcome), None
        for op, age in self.ops.items():
            yield age, None, op
