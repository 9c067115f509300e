"""The port of an engine: what it is asked, and what it may ask of the manager that it serves.

Three sentences decide the rest (docs/decisions/0093). The store's row is the outbox and the truth.
tapescope decides what an attempt's end means, and the engine carries out the wait. The engine
decides who asks for a task; the store's lease decides who has it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tapescope.errors import EngineUnfit
from tapescope.model.tasks import Task
from tapescope.model.telemetry import HeldReason
from tapescope.service import Service
from tapescope.store.port import TaskStore

__all__ = [
    "Again",
    "Answer",
    "Confirmation",
    "Desk",
    "Ended",
    "Engine",
    "EngineReport",
    "EngineServer",
    "Forgotten",
    "Held",
    "Unknown",
]


class Ended(NamedTuple):
    """The task has its ``final``: there is nothing left to bring."""

    task: Task


class Again(NamedTuple):
    """An attempt was made here, and another one is to follow."""

    wait: float
    """Seconds from now."""
    task: Task


class Held(NamedTuple):
    """No attempt was made here: the task is to be brought again, to whichever worker."""

    wait: float
    """Seconds from now."""
    reason: HeldReason


class Unknown(NamedTuple):
    """The store has no such task, or this manager has not registered its op."""

    why: str


Answer = Ended | Again | Held | Unknown


class Desk(abc.ABC):
    """Where an engine brings tasks: a manager that works. Used in the manager's event loop, where
    nothing else is said."""

    @property
    @abc.abstractmethod
    def store_id(self) -> str:
        """What names the manager's store among all that share the engine."""

    @property
    @abc.abstractmethod
    def ops(self) -> Mapping[str, int]:
        """How many tasks of each registered op may run at once here."""

    @abc.abstractmethod
    async def attempt(self, task_id: str) -> Answer:
        """Have the task run here, or wait for its run that goes on here; gives what became of it.

        Whoever brings a task twice waits for the one run of it. Raises nothing.
        """

    @abc.abstractmethod
    async def cancel(self, task_id: str, message: str) -> None:
        """The engine was asked to cancel the task. Raises what ``request_cancel`` raises."""

    @abc.abstractmethod
    def release(self, task_id: str, why: str) -> None:
        """The engine wants the task back: its run here ends, and spends no retry."""

    @abc.abstractmethod
    def find_place(self, task_id: str) -> tuple[int, int] | None:
        """Its attempt here, and how often it has reported so far; for any thread."""


class EngineServer(Service):
    """Brings an engine's tasks to one manager, from ``start`` to ``stop``.

    A second ``start`` takes the ops that were registered since. ``stop`` comes after the last run
    here has ended.
    """

    @abc.abstractmethod
    def stop_taking(self) -> None:
        """Bring no more tasks; those that run go on. At once, and as often as it is called."""


class Confirmation(NamedTuple):
    """What an engine said of tasks that it was asked to have."""

    has: Sequence[str] = ()
    """It has these, whether it had them before or has taken them now."""
    cancelled: Mapping[str, str] = {}
    """These were cancelled there: by id what was said."""
    failed: str = ""
    """Why it could not be asked about the others; empty where it was."""


class Forgotten(NamedTuple):
    """A task that was cancelled or terminated in the engine; it may be pending here, or run."""

    task_id: str
    message: str


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What an engine says of itself, for a person."""

    address: str
    version: str
    able: Mapping[str, bool]
    """What it can do, by the word for it."""
    pollers: Mapping[str, int]
    """By queue how many workers ask there for tasks."""


class Engine(abc.ABC):
    """Brings tasks to workers. One belongs to one manager, from its ``open`` to its ``aclose``.

    All is called in the manager's event loop, and nothing of it blocks that.
    """

    name: str
    """Stands in the rows of its tasks: the name of its entry point."""
    address: str
    """Where it is, as a person may see it."""

    def check_store(self, store: TaskStore) -> None:
        """Raise ``EngineUnfit`` where the workers of an engine cannot share this store."""
        if store.on_one_host:
            why = f"the store {store.name} is of one host. Use a PostgreSQL store"
            raise EngineUnfit(self.address, why)
        if not store.engines.are_kept:
            raise EngineUnfit(self.address, f"the store {store.name} keeps no engines")

    @abc.abstractmethod
    async def open(self, store_id: str) -> None:
        """Reach the engine, if it is there; one that is away is waited for in the background.

        Raises ``EngineUnfit`` for one that is there, and cannot do what is needed.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Let go of all. May be called twice; raises nothing for an engine that is away."""

    @abc.abstractmethod
    def dispatch(self, task: Task) -> None:
        """Tell the engine of a task that is committed, soon; this waits for nothing.

        What does not get through is found by the reconciler: the pending row is the outbox.
        """

    @abc.abstractmethod
    def forget(self, task_id: str) -> None:
        """Tell the engine that a task has ended, before it was brought; as ``dispatch``."""

    @abc.abstractmethod
    def serve(self, desk: Desk) -> EngineServer:
        """What brings its tasks to this manager."""

    @abc.abstractmethod
    async def confirm(self, tasks: Sequence[Task]) -> Confirmation:
        """Ask the engine whether it has these pending tasks, and give it those that it has not.

        A task that was cancelled there is not given again. Raises nothing.
        """

    @abc.abstractmethod
    async def find_forgotten(self) -> Sequence[Forgotten]:
        """Tasks of this store that were cancelled or terminated there lately. Raises nothing.

        Each need be told once. It holds for one that runs here, too.
        """

    @abc.abstractmethod
    async def report(self, ops: Sequence[str]) -> EngineReport:
        """What it says of itself. Raises ``EngineUnavailable``, ``EngineUnfit``."""
