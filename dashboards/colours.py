"""What a colour means: one word has one colour on every board.

Green ended well, red failed, orange was late or is made again, grey was cancelled, blue goes on,
yellow waits. What has no meaning of that kind, an op or a process, has the next colour of the
palette.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from dashboards.promql import (
    BROUGHT_RESULT,
    CANCEL_REASON,
    DROP_REASON,
    FIRING_OUTCOME,
    MESSAGE_RESULT,
    OUTCOME,
    RECONCILE_RESULT,
    RESCUE_RESULT,
    STATE,
    STATUS,
    STREAM_END,
    TAPE_OUTCOME,
)
from tapescope.model import (
    TAPE_OPEN,
    TAPE_UNKNOWN,
    ActiveState,
    BroughtResult,
    CancelReason,
    DropReason,
    FiringOutcome,
    MessageResult,
    Outcome,
    ReconcileResult,
    RescueResult,
    StreamEnd,
    WaitState,
)

__all__ = ["ACTIVE", "BAD", "GREY", "LATE", "LIMIT", "MEANINGS", "NEUTRAL", "WORDS", "paint"]

GOOD: Final = "green"
BAD: Final = "red"
LATE: Final = "orange"
GREY: Final = "#8e8e8e"
"""Of cancelled; a grey that is seen in both themes, as Grafana has no name for one."""
ACTIVE: Final = "blue"
WAITING: Final = "yellow"
LIMIT: Final = "dark-red"
NEUTRAL: Final = "text"
"""Of a number that is neither good nor bad."""

_ANSWERED: Final = (
    *(HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT),
    *(HTTPStatus.SEE_OTHER, HTTPStatus.NOT_MODIFIED),
    *(HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    *(HTTPStatus.CONFLICT, HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY),
    *(HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR),
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What a server of tasks answers most of the time; another status has the palette's next colour."""
_STATUSES: Final = tuple(str(status.value) for status in _ANSWERED)
_OF_STATUS: Final = {"2": GOOD, "3": "light-blue", "4": LATE, "5": BAD}

WORDS: Final[dict[str, tuple[str, ...]]] = {
    OUTCOME: tuple(Outcome),
    STATE: (*ActiveState, *WaitState),
    RESCUE_RESULT: tuple(RescueResult),
    CANCEL_REASON: tuple(CancelReason),
    TAPE_OUTCOME: (*Outcome, TAPE_OPEN, TAPE_UNKNOWN),
    DROP_REASON: tuple(DropReason),
    FIRING_OUTCOME: tuple(FiringOutcome),
    MESSAGE_RESULT: tuple(MessageResult),
    BROUGHT_RESULT: tuple(BroughtResult),
    RECONCILE_RESULT: tuple(ReconcileResult),
    STATUS: _STATUSES,
    STREAM_END: tuple(StreamEnd),
}
"""The closed sets, by the label that carries their words."""

MEANINGS: Final[dict[str, str]] = {
    Outcome.SUCCEEDED: GOOD,
    Outcome.FAILED: BAD,
    Outcome.CANCELLED: GREY,
    RescueResult.RETRIED: LATE,
    FiringOutcome.FIRED: GOOD,
    FiringOutcome.CAUGHT_UP: LATE,
    FiringOutcome.OVERLAPPED: GREY,
    FiringOutcome.MISSED: BAD,
    MessageResult.SENT: WAITING,
    MessageResult.REPEATED: GREY,
    MessageResult.ENDED: LATE,
    MessageResult.FULL: BAD,
    MessageResult.TAKEN: GOOD,
    MessageResult.UNTAKEN: "purple",
    BroughtResult.AGAIN: LATE,
    BroughtResult.HELD: WAITING,
    BroughtResult.UNKNOWN: BAD,
    ReconcileResult.CONFIRMED: GOOD,
    ReconcileResult.LEFT: BAD,
    ActiveState.PENDING: WAITING,
    ActiveState.RUNNING: ACTIVE,
    ActiveState.CANCELLING: "purple",
    WaitState.DUE: WAITING,
    WaitState.SCHEDULED: "light-blue",
    WaitState.RETRYING: LATE,
    CancelReason.USER: GREY,
    CancelReason.SHUTDOWN: "purple",
    CancelReason.SUPERSEDED: "light-blue",
    CancelReason.EXPIRED: LATE,
    DropReason.AFTER_TERMINAL: LATE,
    DropReason.STALE_ATTEMPT: BAD,
    DropReason.DUPLICATE_FINAL: "dark-red",
    DropReason.UNKNOWN_TASK: "purple",
    **{status: _OF_STATUS[status[0]] for status in _STATUSES},
    StreamEnd.FINAL: GOOD,
    StreamEnd.READER_GONE: GREY,
    StreamEnd.READER_STUCK: LATE,
    StreamEnd.DRAINING: "purple",
    StreamEnd.REFUSED: "dark-red",
    TAPE_OPEN: ACTIVE,
    TAPE_UNKNOWN: "purple",
    # Words of our own legends.
    "submitted": ACTIVE,
    "finished": GOOD,
    "offered": ACTIVE,
    "stored": GOOD,
    "dropped": LATE,
    "drops": LATE,
    "failures": BAD,
    "waiting": WAITING,
    "workers": ACTIVE,
    "p50": "light-blue",
    "p95": "blue",
    "p99": "dark-blue",
}

_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


def paint(legend: str) -> Iterator[tuple[str, str]]:
    """The series that this legend may name, so far as their names have a meaning; each colour."""
    labels = [label for label in _LABEL.findall(legend) if label in WORDS]
    if not _LABEL.search(legend):
        if legend in MEANINGS:
            yield legend, MEANINGS[legend]
    elif len(labels) == 1 and len(_LABEL.findall(legend)) == 1:
        for word in WORDS[labels[0]]:
            yield _LABEL.sub(word, legend), MEANINGS[word]
