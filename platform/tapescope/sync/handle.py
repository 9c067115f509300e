"""``SyncHandle``: one task, followed and cancelled with plain calls."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from tapescope.model.messages import InboxPage, Sent
from tapescope.model.tape import Event, QuarantinePage, TapePage
from tapescope.model.tasks import CancelReason, Task
from tapescope.store.follow import TapeBatch

if TYPE_CHECKING:
    from tapescope.manager import TaskHandle, TaskManager
    from tapescope.store.flush import CancelAnswer
    from tapescope.sync.door import Door

__all__ = ["SyncHandle"]

R_co = TypeVar("R_co", covariant=True, default=Any)


class SyncHandle(Generic[R_co]):
    """``TaskHandle`` with plain calls. Holding one keeps nothing running.

    It may be used from any thread, also where its manager was closed and opened again, and in a
    child that was forked. Its methods raise what those of ``TaskHandle`` raise, and
    ``WouldBlockLoop`` in an event loop.
    """

    __slots__ = ("_door", "_handle", "_owner", "created", "found_by", "task_id")

    def __init__(
        self, door: Door, task_id: str, handle: TaskHandle[R_co] | None, owner: str
    ) -> None:
        """``handle`` is that of the manager whose life is called ``owner``."""
        self._door = door
        self._handle = handle
        self._owner = owner
        self.task_id = task_id
        self.created = None if handle is None else handle.created
        """See ``TaskHandle.created``."""
        self.found_by = None if handle is None else handle.found_by
        """See ``TaskHandle.found_by``."""

    def __repr__(self) -> str:
        return f"SyncHandle({self.task_id!r})"

    def status(self) -> Task:
        """The task as its row stands now."""
        return self._door.call(lambda manager: self._at(manager).status())

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the ``final`` and give what the runner returned: see ``TaskHandle.result``.

        To stop waiting, by ``timeout`` in seconds or by Ctrl-C, does nothing to the task.
        """
        return self._door.call(lambda manager: self._at(manager).result(timeout))

    def follow(self, after_seq: int = 0) -> Generator[Event, None, None]:
        """The task's events after ``after_seq``, live, to its ``final``, for ``for``.

        See ``TaskHandle.follow``. It belongs to the manager as it is open now: when that is closed,
        it raises ``ManagerClosed``. A loop that is left ends it.
        """
        life = self._door.find()

        async def begin(manager: TaskManager) -> Any:
            return self._at(manager).follow_batches(after_seq)

        follower = life.call(begin)

        async def take(_: TaskManager) -> TapeBatch | None:
            batch: TapeBatch | None = await anext(follower, None)
            return batch

        # A loop that is left drops the follower, whose event loop closes it then.
        while (batch := life.call(take)) is not None:
            yield from batch.events
            if batch.events[-1].seq == batch.final_seq:
                return

    def cancel(
        self, message: str = "", *, reason: CancelReason | str = "user", by: str | None = None
    ) -> CancelAnswer:
        """Request a cancel; returns once the request is recorded: see ``TaskHandle.cancel``."""
        return self._door.call(
            lambda manager: self._at(manager).cancel(message, reason=reason, by=by)
        )

    def send(self, body: Any, *, key: str | None = None) -> Sent:
        """Send a message to the task: see ``TaskHandle.send``."""
        return self._door.call(lambda manager: self._at(manager).send(body, key=key))

    def messages(self, *, after: int = 0, limit: int = 100) -> InboxPage:
        """A page of what was sent to the task, taken or not, as it is stored."""
        return self._door.call(lambda manager: self._at(manager).messages(after=after, limit=limit))

    def tape(self, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
        """A page of the task's tape."""
        return self._door.call(
            lambda manager: self._at(manager).tape(after_seq=after_seq, limit=limit)
        )

    def drops(self, *, after: int = 0, limit: int = 1_000) -> QuarantinePage:
        """A page of the task's late events, kept off its tape, with the counts of all of them."""
        return self._door.call(lambda manager: self._at(manager).drops(after=after, limit=limit))

    def _at(self, manager: TaskManager) -> TaskHandle[R_co]:
        """The task's handle of this life of the manager."""
        if self._handle is None or manager.owner != self._owner:
            self._handle, self._owner = manager.handle(self.task_id), manager.owner
        return self._handle
