"""Messages on the port: the inbox of a task, which anybody may send to; its run alone takes.

A message is taken by an event of the run (``MessageTaken``), which the database marks it by in one
transaction: a tape keeps its one writer, and no message is on it twice (docs/decisions/0097).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import uuid_utils

from tapescope.codec import canonical, decode, encode
from tapescope.errors import (
    InboxFull,
    MessageConflict,
    MessageTooLarge,
    TapescopeError,
    TaskEnded,
    UnknownTask,
)
from tapescope.model.messages import (
    InboxPage,
    InboxRow,
    Message,
    MessageResult,
    MessageTaken,
    SendAnswer,
    SendRow,
    Sent,
)
from tapescope.store._results import note_untaken
from tapescope.store.core import StoreCore
from tapescope.store.notifications import Change
from tapescope.store.validation import check_page_size, check_place, check_text, is_task_id

__all__ = ["StoreMessages", "count_untaken"]

_PAGE: Final = 100
_LAST: Final = 2**31 - 1
"""The highest number of a message: the head of no event is longer."""


class StoreMessages:
    """The messages of tasks. Bodies are JSON here: who sends has asked the codec before."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def send(self, task_id: str, body: Any, *, key: str | None = None) -> Sent:
        """Put a message into the inbox of a task; returns when it is durable.

        The same ``key`` again, with the same body, is answered as the first time, also after the
        task has ended. A task that is pending has its messages when it begins. Raises
        ``UnknownTask``, ``TaskEnded``, ``InboxFull``, ``MessageConflict``, ``MessageTooLarge``,
        ``NotJson`` and ``BadSetting``, and then nothing was written.
        """
        core, limits = self._core, self._core.limits
        if not is_task_id(task_id):
            raise UnknownTask(task_id)
        text = encode(body, "message")
        if (size := len(text.encode())) > limits.message_bytes:
            raise MessageTooLarge(size, limits.message_bytes)
        known = str(uuid_utils.uuid7()) if key is None else check_text("key", key)
        if (room := _room_in_event(body, known, size, limits.event_bytes)) < size:
            raise MessageTooLarge(size, room)
        row = SendRow(task_id, known, text, limits.inbox)
        sending = _Sending(core, row)
        answer = await core.change("send_message", sending.send, sending.settle)
        if answer is None:
            raise UnknownTask(task_id)
        if answer.result is MessageResult.ENDED:
            raise TaskEnded(task_id, answer.status.value)
        if answer.result is MessageResult.FULL:
            raise InboxFull(task_id, row.most)
        there = answer.result is MessageResult.REPEATED
        if there and canonical(decode(answer.body or "null")) != canonical(decode(text)):
            raise MessageConflict(task_id, known, answer.n)
        return Sent(answer.n, known, sending.is_new(answer))

    async def read(self, task_id: str, *, after: int = 0, limit: int = _PAGE) -> InboxPage:
        """A page of a task's messages, taken or not, by ``n``, after that of ``after``.

        Raises ``UnknownTask``, ``BadSetting``.
        """
        limit, after = check_page_size(limit), check_place("after", after, of_tape=True)
        rows = await self._read(task_id, after, limit + 1)
        page = tuple(read_message(row) for row in rows[:limit])
        return InboxPage(page, page[-1].n if len(rows) > limit else None)

    async def _read(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow]:
        core = self._core
        rows: Sequence[InboxRow] | None = None
        if is_task_id(task_id):
            rows = await core.read(
                "read_inbox", lambda: core.backend.read_inbox(task_id, after, limit)
            )
        if rows is None:
            raise UnknownTask(task_id)
        return rows


def _room_in_event(body: Any, key: str, size: int, event_bytes: int) -> int:
    """The bytes that a body may have on the tape: one that no event can hold would be in its inbox
    for ever, and all that come behind it.

    Raises ``NotJson`` where it is nested too deep for that: the event is one level more.
    """
    event = MessageTaken(Message(_LAST, body, key, 0), body)
    return max(0, event_bytes - len(encode(event.body, "message").encode()) + size)


class _Sending:
    """A message on its way: a try whose reply was lost is made again, and found by its key."""

    def __init__(self, core: StoreCore, row: SendRow) -> None:
        self._core, self._row = core, row
        self._unanswered = 0
        """Tries of which it is not known what became of them."""

    async def send(self) -> SendAnswer | None:
        self._unanswered += 1
        answer = await self._core.backend.send_message(self._row)
        self._unanswered -= 1
        return answer

    def is_new(self, answer: SendAnswer) -> bool:
        """Whether this call has added it, as far as it can be known: an earlier try may have."""
        if answer.result is not MessageResult.REPEATED:
            return answer.result is MessageResult.SENT
        return self._unanswered > 0 and answer.body == self._row.body

    def settle(self, answer: SendAnswer | None) -> None:
        """Count what became of it, and tell who waits for it here.

        Of one that was there, too: who had sent it may not know, and have told nobody.
        """
        if answer is None:
            return
        result = MessageResult.SENT if self.is_new(answer) else answer.result
        self._core.telemetry.messages.count(answer.op, result.value)
        if answer.result in (MessageResult.SENT, MessageResult.REPEATED):
            self._core.changes.publish(Change(self._row.task_id))


async def count_untaken(core: StoreCore, ended: Sequence[str]) -> None:
    """Count and tell the messages that these tasks, which ended in no flush, did not take."""
    if ended:
        with suppress(TapescopeError):  # they are in the inbox still, to be seen
            note_untaken(
                core.telemetry,
                await core.read("find_untaken", lambda: core.backend.find_untaken(ended)),
            )


def read_message(row: InboxRow) -> Message:
    """A message as it is stored; its body as JSON."""
    n, key, body, sent_us, taken_seq = row
    return Message(n, decode(body), key, sent_us, taken_seq, again=False)
