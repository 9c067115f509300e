"""``assert_tape``: a tape beside what a test expects of it, with the difference in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from tapescope.model.tape import FINAL, Event, Outcome, TapePage

__all__ = ["ExpectedEvent", "TapeDiffers", "assert_tape"]

T = TypeVar("T")

ExpectedEvent: TypeAlias = str | Outcome | EllipsisType | tuple[str, Any]
"""What is expected of an event: its type; its type and body, or a part of that; the ``Outcome`` of
the ``final``; or ``...`` for any events, none among them."""

_SHOWN: Final = 20
"""Events before and behind the difference that are shown."""
_LONGEST: Final = 200
"""Characters of a body that are shown."""


class TapeDiffers(AssertionError):
    """A tape is not what was expected."""

    def __init__(self, seq: int | None, why: str, shown: str) -> None:
        self.seq = seq
        """Where the tape first differs; ``None`` where it ends too early."""
        self.why = why
        super().__init__(f"The tape is not what was expected: {why}\n{shown}")


def assert_tape(tape: TapePage | Sequence[Event], expected: Sequence[ExpectedEvent]) -> None:
    """Raise ``TapeDiffers`` unless the tape has these events, all of them and in this order::

        assert_tape(
            await task.tape(),
            [
                "task_started",
                ("progress", {"current": 1, "total": 2}),
                ...,
                Outcome.SUCCEEDED,
            ],
        )

    A body that is a dictionary may have more members than are named, at any depth; a list has as
    many. Other values are compared by ``==``: ``mock.ANY`` and ``pytest.approx`` will do.
    ``("final", {...})`` says more of the end than an ``Outcome`` does.
    """
    __tracebackhide__ = True  # read by pytest: the test's own line is enough
    events = tape.events if isinstance(tape, TapePage) else tuple(tape)
    # The places in ``expected`` at which what was matched so far may stand: several with ``...``.
    reached = _skip_any({0}, expected)
    nearest: _Miss | None = None
    for event in events:
        matched: set[int] = set()
        for at in reached:
            miss = _match(expected, at, event)
            if miss is None:
                matched.add(at if at < len(expected) and expected[at] is ... else at + 1)
            elif nearest is None or miss.rank >= nearest.rank:
                nearest = miss
        reached = _skip_any(matched, expected)
        if not reached:
            break
    if len(expected) in reached:
        return
    last = max(reached, default=-1)
    if nearest is None or (last, False) >= nearest.rank[:2]:
        why = f"it ends where {_name(expected[last])} was expected"
        raise TapeDiffers(None, why, _show(events, None, expected, last))
    seq = nearest.event.seq
    raise TapeDiffers(seq, nearest.why, _show(events, seq, expected, nearest.place))


class _Miss(NamedTuple):
    """An event that is not what was expected at a place."""

    place: int
    of_type: bool
    """Whether it is of the type at least."""
    event: Event
    why: str

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The higher, the more of what was expected is there."""
        return self.place, self.of_type, self.event.seq


def _skip_any(places: set[int], expected: Sequence[ExpectedEvent]) -> set[int]:
    """The places, and those behind each ``...`` at which one of them stands."""
    found = set(places)
    for at in sorted(places):
        while at < len(expected) and expected[at] is ...:
            at += 1
            found.add(at)
    return found


def _match(expected: Sequence[ExpectedEvent], at: int, event: Event) -> _Miss | None:
    """Why the event is not what is expected at this place; ``None`` where it is."""
    told = f"event {event.seq} is {event.type!r}"
    if at == len(expected):
        return _Miss(at, False, event, f"{told}, and no more was expected")
    one = expected[at]
    if isinstance(one, EllipsisType):
        return None
    type_, why = _compare_event(one, event)
    return _Miss(at, event.type == type_, event, f"{told}: {why}") if why else None


def _compare_event(expected: str | Outcome | tuple[str, Any], event: Event) -> tuple[str, str]:
    """The type that is expected, and in what the event differs; empty where it does not."""
    if isinstance(expected, Outcome):
        expected = FINAL, {"outcome": expected.value}
    type_, body = (expected, ...) if isinstance(expected, str) else expected
    if event.type != type_:
        return type_, f"{_name(expected)} was expected"
    return type_, "" if body is ... else _compare(body, event.body, "its body")


def _compare(expected: Any, given: Any, where: str) -> str:
    """In what a value differs; empty where it does not."""
    if _are(Mapping, expected, given):
        return _compare_members(expected, given, where)
    if _are(list, expected, given):
        return _compare_parts(expected, given, where)
    if expected == given:
        return ""
    return f"{where} is {_shorten(given)}, and {_shorten(expected)} was expected"


def _are(kind: type, expected: object, given: object) -> bool:
    return isinstance(expected, kind) and isinstance(given, kind)


def _compare_members(expected: Mapping[Any, Any], given: Mapping[Any, Any], where: str) -> str:
    for name, value in expected.items():
        if name not in given:
            return f"{where} has no {name!r}"
        if why := _compare(value, given[name], f"{where}[{name!r}]"):
            return why
    return ""


def _compare_parts(expected: list[Any], given: list[Any], where: str) -> str:
    if len(expected) != len(given):
        return f"{where} has {len(given)} parts, and {len(expected)} were expected"
    for n, (value, other) in enumerate(zip(expected, given, strict=True)):
        if why := _compare(value, other, f"{where}[{n}]"):
            return why
    return ""


def _show(
    events: Sequence[Event], seq: int | None, expected: Sequence[ExpectedEvent], place: int
) -> str:
    """The tape and what was expected of it, around the difference."""
    at = next((n for n, event in enumerate(events) if event.seq == seq), len(events))
    tape = [f"{event.seq} {event.type} {_shorten(event.body)}" for event in _near(events, at)]
    lines = ["The tape:", *_mark(tape, at, len(events), "events")]
    if seq is None:
        lines.append("--> (its end)")
    named = [_name(one) for one in _near(expected, place)]
    return "\n".join([*lines, "Expected:", *_mark(named, place, len(expected), "expected")])


def _near(items: Sequence[T], at: int) -> Sequence[T]:
    return items[max(0, at - _SHOWN) : at + _SHOWN + 1]


def _mark(lines: Sequence[str], at: int, total: int, what: str) -> list[str]:
    """The lines around the place ``at``, which has an arrow, and how many there are besides."""
    first = max(0, at - _SHOWN)
    behind = total - first - len(lines)
    marked = [f"{'-->' if n == at else '   '} {line}" for n, line in enumerate(lines, first)]
    before = [f"    … {first:,} {what} before"] if first else []
    return [*before, *marked, *([f"    … {behind:,} {what} more"] if behind else [])]


def _name(expected: ExpectedEvent) -> str:
    if isinstance(expected, EllipsisType):
        return "... (any events)"
    if isinstance(expected, Outcome):
        return f"a final with the outcome {expected.value!r}"
    if isinstance(expected, str):
        return repr(expected)
    return f"{expected[0]!r} with {_shorten(expected[1])}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"
