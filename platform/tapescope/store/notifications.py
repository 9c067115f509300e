"""Commit notifications: who follows what, and waking them after the commit (invariant I9)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tapescope.model.tape import Event
from tapescope.model.tasks import CancelRequest

__all__ = ["RESYNC", "CancelListener", "Change", "Changes", "Subscription"]

_BACKLOG: Final = 1024

CancelListener = Callable[[str, CancelRequest], None]


@dataclass(frozen=True, slots=True)
class Change:
    """Something was committed.

    ``events`` holds the committed events themselves when they were written in this process;
    otherwise the tape is there to be read.
    """

    task_id: str | None
    """``None``: look again at all of it. A notification may have been lost, or tasks have come to
    wait for a claim; which, the store knows."""
    last_seq: int = 0
    """The tape's end as far as this change knows; 0 when it does not."""
    events: tuple[Event, ...] = ()


RESYNC: Final = Change(None)


class Subscription:
    """A bounded queue of changes. When it overflows, the backlog becomes one "look again"."""

    def __init__(self, leave: Callable[[Subscription], None]) -> None:
        self._leave = leave
        self.told_seq = 0
        """The highest end of a tape that a change told of, taken or not."""
        self.given_seq = 0
        """The last event that a change had itself, taken or not."""
        self.why: Exception | None = None
        """Why it was closed, for who waits; ``None``: its store was."""
        self._waiting: deque[Change] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """The next change; ends when the subscription or the store is closed."""
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._waiting.popleft()

    def close(self, why: Exception | None = None) -> None:
        """Stop listening; may be called twice."""
        if not self._closed:
            self._closed, self.why = True, why
            self._leave(self)
            self._awaken()

    def offer(self, change: Change) -> None:
        """Queue a change; called by the store."""
        end = change.events[-1].seq if change.events else change.last_seq
        self.told_seq = max(self.told_seq, end)
        if change.events:
            self.given_seq = end
        if change is RESYNC and self._waiting and self._waiting[-1] is RESYNC:
            return  # one look is as good as two
        if len(self._waiting) >= _BACKLOG:
            self._waiting.clear()
            change = RESYNC
        self._waiting.append(change)
        self._awaken()

    def _awaken(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done() and not wake.get_loop().is_closed():
            wake.set_result(None)  # in a loop that is closed nobody waits any more


class Changes:
    """A store's subscriptions. ``on_interest`` is told when the first comes and the last goes."""

    def __init__(self, on_interest: Callable[[bool], None]) -> None:
        self._on_interest = on_interest
        self._by_task: dict[str, list[Subscription]] = {}
        self._of_all: list[Subscription] = []
        self._of_arrivals: list[Subscription] = []
        self._owners: dict[str, CancelListener] = {}
        self._in_doubt = False

    def subscribe(self, task_id: str | None) -> Subscription:
        """Be told of one task's commits, or (``None``) of every one; effective at once."""
        if task_id is None:
            return self._join(lambda: self._of_all)
        return self._join(lambda: self._by_task.setdefault(task_id, []), task_id)

    def await_arrivals(self) -> Subscription:
        """Be told to look again whenever a task has come to wait for a claim."""
        return self._join(lambda: self._of_arrivals)

    def _join(
        self, find_circle: Callable[[], list[Subscription]], task_id: str | None = None
    ) -> Subscription:
        first = not self.wanted
        circle = find_circle()

        def leave(subscription: Subscription) -> None:
            circle.remove(subscription)
            if not circle and task_id is not None:
                del self._by_task[task_id]
            if not self.wanted:
                self._on_interest(False)

        subscription = Subscription(leave)
        circle.append(subscription)
        if first:
            self._on_interest(True)
        return subscription

    @property
    def wanted(self) -> bool:
        """Whether there is a subscriber or a listener."""
        return bool(self._by_task or self._of_all or self._of_arrivals or self._owners)

    def listen_for_cancels(self, owner: str, listener: CancelListener) -> None:
        """Have ``listener`` told of every cancel request for a running task of ``owner``."""
        first = not self.wanted
        self._owners[owner] = listener
        if first:
            self._on_interest(True)

    def stop_listening(self, owner: str) -> None:
        """Undo ``listen_for_cancels``; an owner that does not listen is not an error."""
        if self._owners.pop(owner, None) is not None and not self.wanted:
            self._on_interest(False)

    @property
    def owners(self) -> tuple[str, ...]:
        """The owners of this process that have something running."""
        return tuple(self._owners)

    def tell_owner(self, owner: str | None, task_id: str, request: CancelRequest) -> None:
        """Tell a task's owner, if it is of this process; it may be told more than once."""
        listener = self._owners.get(owner) if owner is not None else None
        if listener is None:
            return
        try:
            listener(task_id, request)
        except Exception as error:  # noqa: BLE001  # its own trouble, not the store's callers'
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a cancel listener of {owner} failed", "exception": error}
            )

    @property
    def any_follower(self) -> bool:
        """Whether ``follows`` is true of any task."""
        return bool(self._of_all or self._by_task)

    def follows(self, task_id: str) -> bool:
        """Whether a subscriber would be told of this task's commits."""
        return bool(self._of_all) or task_id in self._by_task

    @property
    def followed(self) -> tuple[str, ...]:
        """The tasks that are followed one by one."""
        return tuple(self._by_task)

    @property
    def follows_all(self) -> bool:
        """Whether a subscriber follows every task."""
        return bool(self._of_all)

    @property
    def awaits_arrivals(self) -> bool:
        """Whether ``publish_arrival`` has a subscriber."""
        return bool(self._of_all or self._of_arrivals)

    def publish_arrival(self) -> None:
        """Tell those that follow every task, or wait for work, that tasks wait for a claim."""
        for subscription in [*self._of_all, *self._of_arrivals]:
            subscription.offer(RESYNC)

    def publish(self, change: Change) -> None:
        """Tell everyone concerned; call it only after the commit (invariant I9)."""
        if change.task_id is None:
            for subscription in self._everyone():
                subscription.offer(change)
            return
        for subscription in self._of_all:
            subscription.offer(change)
        end = 0 if change.events else change.last_seq
        for subscription in self._by_task.get(change.task_id, ()):
            # A look at what others have committed finds our own commits, too: those were given. An
            # end that was only told may be anybody's word (a notification), and hides no other.
            if not end or end > subscription.given_seq:
                subscription.offer(change)

    def doubt(self) -> None:
        """What a call has written is not known: nobody is told of it, and it may be there."""
        self._in_doubt = True

    def note_answer(self) -> None:
        """The store answers: who follows looks again, where something was in doubt. Not before:
        a look would be in vain while the store is away."""
        if self._in_doubt:
            self._in_doubt = False
            self.publish(RESYNC)

    def close(self) -> None:
        """End every subscription."""
        for subscription in self._everyone():
            subscription.close()

    def _everyone(self) -> list[Subscription]:
        of_one = (s for circle in self._by_task.values() for s in circle)
        return [*self._of_all, *self._of_arrivals, *of_one]
