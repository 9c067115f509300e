"""Messages to a task: what is sent into a run, and waits in the task's inbox until it takes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from tapescope.model.frozen import quickly_made
from tapescope.model.tape import MESSAGE_TAKEN, NewEvent
from tapescope.model.tasks import TaskStatus
from tapescope.model.times import format_time, moment

__all__ = [
    "InboxPage",
    "InboxRow",
    "Message",
    "MessageResult",
    "MessageTaken",
    "SendAnswer",
    "SendRow",
    "Sent",
    "Untaken",
]


class MessageResult(StrEnum):
    """What became of a message: a closed set, each counted once, where it is decided."""

    SENT = "sent"
    """It is in the inbox of its task."""
    REPEATED = "repeated"
    """It was there already, by its key: nothing was added."""
    ENDED = "ended"
    """It was refused: the task has ended (``TaskEnded``)."""
    FULL = "full"
    """It was refused: the inbox is full (``InboxFull``)."""
    TAKEN = "taken"
    """It is on the tape: the run has taken it."""
    UNTAKEN = "untaken"
    """The task ended without having taken it. It stays in the inbox as long as the task."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Message:
    """A message that a runner was given, or that is in an inbox."""

    n: int
    """Which one of its task it is, from 1, without a gap."""
    body: Any
    """What was sent: any JSON value, or what the codec makes of it."""
    key: str
    """What names it among the messages of its task; made by the store where none was given."""
    sent_us: int
    """When the store had it, in microseconds since the epoch."""
    taken_seq: int | None = None
    """Where it is on the tape; ``None`` while no attempt has taken it."""
    again: bool = False
    """Whether an attempt before this one had taken it: its work may be done."""

    @property
    def sent_at(self) -> datetime:
        """When the store had it: an aware time."""
        return moment(self.sent_us)


class MessageTaken(NewEvent):
    """The event by which an attempt takes a message: no caller makes one of the type by itself."""

    __slots__ = ()

    def __init__(self, message: Message, kept: Any) -> None:
        """``kept`` is the body as the tape has it."""
        sent_at = format_time(message.sent_us)
        told = {"n": message.n, "key": message.key, "sent_at": sent_at, "body": kept}
        object.__setattr__(self, "type", MESSAGE_TAKEN)
        object.__setattr__(self, "body", told)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender is told: the message is durable now."""

    n: int
    """Which one of its task it is, from 1."""
    key: str
    """What names it: to send the same again under this key adds nothing."""
    new: bool
    """``False`` where it was there already, by its key. One that is found after a try that had no
    answer counts as that try's."""


@dataclass(frozen=True, slots=True)
class InboxPage:
    """A page of a task's messages, by ``n``."""

    messages: tuple[Message, ...]
    next: int | None
    """The ``after`` of the next page; ``None`` on the last one."""


class SendRow(NamedTuple):
    """A message on its way into the store."""

    task_id: str
    key: str
    body: str
    """JSON text."""
    most: int
    """How many that are not taken an inbox holds."""


class SendAnswer(NamedTuple):
    """What became of it in the store's transaction."""

    result: MessageResult
    """Of the first four."""
    op: str
    status: TaskStatus
    """The task's, when it was decided."""
    n: int
    """0 where it was refused."""
    body: str | None = None
    """The text of the one that was there, where it is ``REPEATED``."""


class InboxRow(NamedTuple):
    """A message as it is stored."""

    n: int
    key: str
    body: str
    """JSON text."""
    sent_us: int
    taken_seq: int | None


class Untaken(NamedTuple):
    """How many messages a task that has ended did not take."""

    task_id: str
    op: str
    n: int
