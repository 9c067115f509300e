"""Messages on the port: the inbox of a task, which anybody may send to; its run alone takes.

A message is taken by an event of the run (``MessageTaken``), which the database marks it by in one
transaction: a tape keeps its one writer, and no message is on it twice (docs/decisions/0097).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import uuid_utils

from tapescope.codec import canonical, decode, encode
from tapescope.errors import (
    InboxFull,
    MessageConflict,
    MessageTooLarge,
    TaskEnded,
    UnknownTask,
)
from tapescope.model.messages import (
    InboxPage,
    InboxRow,
    Message,
    MessageResult,
    SendAnswer,
    SendRow,
    Sent,
)
from tapescope.store.core import StoreCore
from tapescope.store.notifications import Change
from tapescope.store.validation import check_page_size, check_place, check_text, is_task_id

__all__ = ["StoreMessages"]

_PAGE: Final = 100


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
        row = SendRow(task_id, known, text, limits.inbox)
        # A try whose reply was lost is made again, and found by its key.
        answer = await core.change(
            "send_message",
            lambda: core.backend.send_message(row),
            self._tell(row, named=key is not None),
        )
        if answer is None:
            raise UnknownTask(task_id)
        if answer.result is MessageResult.ENDED:
            raise TaskEnded(task_id, answer.status.value)
        if answer.result is MessageResult.FULL:
            raise InboxFull(task_id, row.most)
        new = answer.result is MessageResult.SENT
        if not new and canonical(decode(answer.body or "null")) != canonical(decode(text)):
            raise MessageConflict(task_id, known, answer.n)
        return Sent(answer.n, known, new or key is None)

    def _tell(self, row: SendRow, *, named: bool) -> Callable[[SendAnswer | None], None]:
        """Count what became of it, and tell who waits for it here."""

        def settle(answer: SendAnswer | None) -> None:
            if answer is None:
                return
            result = answer.result
            if result is MessageResult.REPEATED and not named:
                result = MessageResult.SENT  # by a try whose reply was lost
            self._core.telemetry.messages.count(answer.op, result.value)
            if result is MessageResult.SENT:
                self._core.changes.publish(Change(row.task_id))

        return settle

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


def read_message(row: InboxRow) -> Message:
    """A message as it is stored; its body as JSON."""
    n, key, body, sent_us, taken_seq = row
    return Message(n, decode(body), key, sent_us, taken_seq, again=False)
