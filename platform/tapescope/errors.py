"""The errors that a caller can get, each with what to do next.

Each builds its message from typed arguments, which stay readable as attributes:

* TapescopeError
  x BadSetting
  x BadOp
  x BadRunner
  x BadParams
  x BadEvent
    + BadEventType
    + EventTooLarge
    + NotJson
    + TapeFull
    + NowaitBacklogFull
  x CodecFailed
  x CodecMissing
  x NotOfType
  x IdempotencyConflict
  x UniqueKeyTaken
  x ConnectionRefused
  x UnknownTask
  x UnknownSchedule
  x ScheduleTaken
  x UnknownWorker
  x TaskFailed
  x TaskCancelled
  x ResultTimeout
  x EventDropped
  x EventFateUnknown
  x CommandFailed
  x Retry
  x GiveUp
  x BadSpool
  x TapeGap
  x DamagedTape
  x StoreConfigError
    + BadStoreUrl
    + UnknownStoreScheme
    + SchemeTaken
    + MissingExtra
    + SchemaTooNew
    + SchemaTooOld
    + SchemaForbidden
    + SchemaNotOwn
    + RightsMissing
    + StoreAuthFailed
    + StoreNotFound
  x EngineUnfit
  x BadEngineUrl
  x UnknownEngine
  x EngineUnavailable
  x StoreUnavailable
    + StoreBusy
    + StoreFull
  x StoreRefused
  x StoreClosed
  x StoreReadOnly
  x ManagerClosed
  x ManagerOpen
  x ManagerUnclear
  x OpTaken
  x HookMisused
  x ResourceFailed
  x TaskNotEnded
  x TaskEnded
  x InboxFull
  x MessageTooLarge
  x MessageConflict
  x OpNotRegistered
  x OpFull
  x CannotListen
  x BlockingCallOnLoop
  x WouldBlockLoop
  x UsedAfterFork
  x UsedInAnotherLoop
  x ServerUnavailable
  x ServerFailed
  x ServerNotUnderstood
  x RequestRefused
    + TokenRefused
    + ScopeMissing
  x ClientClosed
* asyncio.CancelledError
  x CancelRequested

``TaskCancelled`` is an ordinary exception: it says what became of a task, and has nothing to do
with ``asyncio``'s own cancellation. ``CancelRequested`` is an ``asyncio.CancelledError``, so that
no library between a runner and the platform takes a cancel for an error.

The names are values of the attribute ``error.type``, so this module stays where it is. The errors
of setting telemetry up are in ``tapescope_telemetry.errors``.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tapescope.model.showing import hide_password

if TYPE_CHECKING:
    from tapescope.model.tape import DropReason
    from tapescope.model.tasks import CancelReason, ErrorInfo

__all__ = [
    "BadEngineUrl",
    "BadEvent",
    "BadEventType",
    "BadOp",
    "BadParams",
    "BadRunner",
    "BadSetting",
    "BadSpool",
    "BadStoreUrl",
    "BlockingCallOnLoop",
    "CancelRequested",
    "CannotListen",
    "ClientClosed",
    "CodecFailed",
    "CodecMissing",
    "CommandFailed",
    "ConnectionRefused",
    "DamagedTape",
    "EngineUnavailable",
    "EngineUnfit",
    "EventDropped",
    "EventFateUnknown",
    "EventTooLarge",
    "GiveUp",
    "HookMisused",
    "IdempotencyConflict",
    "InboxFull",
    "ManagerClosed",
    "ManagerOpen",
    "ManagerUnclear",
    "MessageConflict",
    "MessageTooLarge",
    "MissingExtra",
    "NotJson",
    "NotOfType",
    "NowaitBacklogFull",
    "OpFull",
    "OpNotRegistered",
    "OpTaken",
    "RequestRefused",
    "ResourceFailed",
    "ResultTimeout",
    "Retry",
    "RightsMissing",
    "ScheduleTaken",
    "SchemaForbidden",
    "SchemaNotOwn",
    "SchemaTooNew",
    "SchemaTooOld",
    "SchemeTaken",
    "ScopeMissing",
    "ServerFailed",
    "ServerNotUnderstood",
    "ServerUnavailable",
    "StoreAuthFailed",
    "StoreBusy",
    "StoreClosed",
    "StoreConfigError",
    "StoreFull",
    "StoreNotFound",
    "StoreReadOnly",
    "StoreRefused",
    "StoreUnavailable",
    "TapeFull",
    "TapeGap",
    "TapescopeError",
    "TaskCancelled",
    "TaskEnded",
    "TaskFailed",
    "TaskNotEnded",
    "TokenRefused",
    "UniqueKeyTaken",
    "UnknownEngine",
    "UnknownSchedule",
    "UnknownStoreScheme",
    "UnknownTask",
    "UnknownWorker",
    "UsedAfterFork",
    "UsedInAnotherLoop",
    "WouldBlockLoop",
]


class TapescopeError(Exception):
    """The root of every error of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), vars(self)


def _restore(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """A copied or unpickled error, without ``__init__``: that would make a message of a message."""
    error = kind.__new__(kind, *args)
    error.args = args  # those of a TimeoutError are not set by __new__
    return error


_LONGEST_WAIT: Final = 3_155_760_000
"""Seconds: a hundred years, as for any setting."""
_SHOWN: Final = 200
"""Characters of a caller's value in a message."""


def _show(value: object) -> str:
    """``repr(value)``, not too long, also of a value that cannot be printed."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # whatever a class of somebody's raises; and ints over 4,300 digits
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# --- what a caller hands in ---------------------------------------------------------------------


class BadSetting(TapescopeError):
    """A setting with a value that it cannot have."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name, self.value, self.expected = name, value, expected
        super().__init__(f"{name} is {_show(value)}; it must be {expected}.")


class BadOp(TapescopeError):
    """An op name that cannot be a metric label."""

    def __init__(self, op: object) -> None:
        self.op = op
        super().__init__(
            f"{_show(op)} is not a valid op name. Use 1 to 128 of A-Z, a-z, 0-9, '_', '.', '-', "
            "a letter or '_' first: 'resize', 'shop.tasks.Resize'."
        )


class BadRunner(TapescopeError):
    """A runner that the platform cannot call."""

    def __init__(self, runner: object, why: str) -> None:
        self.runner, self.why = runner, why
        super().__init__(
            f"{_show(runner)} cannot run a task: {why}. Pass an 'async def', a plain function, or "
            "a callable object that returns its result; report steps with the reporter."
        )


class BadParams(TapescopeError):
    """Params that are not a JSON object, or not the keyword arguments of the op's runner."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The params cannot be used: {why}. Pass the runner's keyword arguments by name, with "
            "values that JSON can carry."
        )


class BadEvent(TapescopeError):
    """An event that is refused as input: it was not written, and does not count as dropped."""


class BadEventType(BadEvent):
    """An event type that is malformed or reserved."""

    def __init__(self, type: object, *, reserved: bool) -> None:
        self.type, self.reserved = type, reserved
        super().__init__(
            f"The event type {_show(type)} is reserved for the platform. Choose a name of your own."
            if reserved
            else f"{_show(type)} is not a valid event type. Use 1 to 64 of a-z, 0-9, '_', '.', "
            "'-', a letter first."
        )


class EventTooLarge(BadEvent):
    """An event over the size limit."""

    def __init__(self, type: str, size: int, limit: int) -> None:
        self.type, self.size, self.limit = type, size, limit
        super().__init__(
            f"A {type!r} event of {size:,} bytes is over the limit of {limit:,}. "
            "Store the payload elsewhere and put a reference on the tape, or split it."
        )


class NotJson(BadEvent):
    """A value that JSON cannot carry."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        super().__init__(
            f"The {what} is not JSON: {why}. Use objects with text keys, lists, text, finite "
            "numbers, booleans and null."
        )


class TapeFull(BadEvent):
    """The tape has as many events as it may have; only its ``final`` is still accepted."""

    def __init__(self, task_id: str, limit: int) -> None:
        self.task_id, self.limit = task_id, limit
        super().__init__(
            f"The tape of task {task_id} has its limit of {limit:,} events. "
            "Report less often, or raise the store's tape limit."
        )


class NowaitBacklogFull(BadEvent):
    """Too many events of one run are waiting to be stored."""

    def __init__(self, task_id: str, limit: int) -> None:
        self.task_id, self.limit = task_id, limit
        super().__init__(
            f"{limit:,} events of task {task_id} are waiting to be stored. "
            "Await a report now and then, so that the store can keep up."
        )


class CodecFailed(TapescopeError):
    """A value that the codec of the manager did not encode or decode."""

    def __init__(self, codec: str, verb: str, what: str, why: str) -> None:
        self.codec, self.verb, self.what, self.why = codec, verb, what, why
        super().__init__(
            f"The codec {codec!r} could not {verb} the {what}: {why}. Mend the codec, or pass a "
            "value that it takes; what is stored stays as it is."
        )


class CodecMissing(TapescopeError):
    """A stored value that was encoded by a codec that the manager does not have."""

    def __init__(self, what: str, needed: str, own: str | None) -> None:
        self.what, self.needed, self.own = what, needed, own
        has = "no codec" if own is None else f"the codec {own!r}"
        super().__init__(
            f"The {what} was encoded by the codec {needed!r}, and this manager has {has}. Give it "
            "that one: TaskManager(codec=…)."
        )


class NotOfType(TapescopeError):
    """A value that is not of the type that its op's runner is annotated with."""

    def __init__(self, what: str, type: str, why: str) -> None:
        self.what, self.type, self.why = what, type, why
        super().__init__(
            f"The {what} is not a {type}: {why}. Give what the runner's annotation says, or change "
            "the annotation."
        )


class IdempotencyConflict(TapescopeError):
    """The same op and idempotency key were submitted with other params."""

    def __init__(self, op: str, idempotency_key: str, task_id: str) -> None:
        self.op, self.idempotency_key, self.task_id = op, idempotency_key, task_id
        super().__init__(
            f"The idempotency key {idempotency_key!r} of op {op!r} belongs to task {task_id}, "
            "which has other params. Use another key, or submit the same params."
        )


class UniqueKeyTaken(TapescopeError):
    """An ended task was to be submitted again, and another task is open that has its unique key."""

    def __init__(self, op: str, unique_key: str, task_id: str) -> None:
        self.op, self.unique_key, self.task_id = op, unique_key, task_id
        super().__init__(
            f"The unique key {unique_key!r} of op {op!r} belongs to task {task_id}, which has not "
            "ended, so nothing was submitted. Wait for its end, or cancel it, and try again."
        )


class ConnectionRefused(TapescopeError):
    """A connection on which a task cannot be submitted; nothing was written."""

    def __init__(self, why: str, advice: str) -> None:
        self.why, self.advice = why, advice
        super().__init__(f"The task cannot be submitted on this connection: {why}. {advice}")


class UnknownTask(TapescopeError):
    """A task id that the store does not hold."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"The store has no task {_show(task_id)}. Check the id ('tapescope list') and the "
            "store."
        )


# --- what became of a task or an event ------------------------------------------------------------


class UnknownSchedule(TapescopeError):
    """A name of which the store has no schedule."""

    def __init__(self, schedule: str) -> None:
        self.schedule = schedule
        super().__init__(
            f"The store has no schedule {_show(schedule)}. Check the name ('tapescope schedule "
            "list') and the store."
        )


class ScheduleTaken(TapescopeError):
    """A second schedule of one name, in a store or in the registries of ops."""

    def __init__(self, schedule: str) -> None:
        self.schedule = schedule
        super().__init__(
            f"There is a schedule {_show(schedule)} already. Give the second one another name, or "
            "remove the first ('tapescope schedule remove')."
        )


class UnknownWorker(TapescopeError):
    """An owner of which the store knows no worker: its name is another one, or it has ended."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        super().__init__(
            f"The store knows no worker {_show(owner)}. Check the owner ('tapescope workers'): a "
            "worker that has ended needs no drain."
        )


class TaskFailed(TapescopeError):
    """The task ended as ``failed``; ``error`` is that of its ``final``."""

    def __init__(self, task_id: str, error: ErrorInfo) -> None:
        self.task_id, self.error = task_id, error
        super().__init__(f"Task {task_id} failed with {error.code}: {error.message}")


class TaskCancelled(TapescopeError):
    """The task ended as ``cancelled``. An ordinary exception, not ``asyncio.CancelledError``."""

    def __init__(self, task_id: str, reason: CancelReason, message: str = "") -> None:
        self.task_id, self.reason, self.message = task_id, reason, message
        super().__init__(
            f"Task {task_id} was cancelled ({reason.value})" + (f": {message}" if message else ".")
        )


class ResultTimeout(TapescopeError, TimeoutError):
    """The task did not end within the time that was waited for it; it goes on as it was."""

    def __init__(self, task_id: str, waited: float, state: str) -> None:
        self.task_id, self.waited, self.state = task_id, waited, state
        super().__init__(
            f"Task {task_id} did not end within {waited:g} s. It is {state}. Wait longer for it, "
            "or cancel it."
        )


class EventDropped(TapescopeError):
    """A late event: kept off the tape, counted, and quarantined with its reason."""

    def __init__(self, task_id: str, attempt: int, reason: DropReason) -> None:
        self.task_id, self.attempt, self.reason = task_id, attempt, reason
        super().__init__(
            f"Attempt {attempt} may no longer write to the tape of task {task_id} "
            f"({reason.value}): the event is in the quarantine ('tapescope drops'). "
            "Stop working on this task."
        )


class EventFateUnknown(TapescopeError):
    """The store was lost during a write, and did not say later whether the event is on the tape."""

    def __init__(self, waited: float) -> None:
        self.waited = waited
        super().__init__(
            f"The store was lost during a commit and did not answer again within {waited:g} s: the "
            "events of that commit may or may not be stored. Read the tape once the store is back."
        )


class CancelRequested(asyncio.CancelledError):
    """Raised in a runner by ``raise_if_cancelled``. Let it pass: a cancel is not an error."""

    def __init__(self, reason: CancelReason, message: str = "") -> None:
        self.reason, self.message = reason, message
        super().__init__(f"cancel requested ({reason.value})" + (f": {message}" if message else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), vars(self)


class CommandFailed(TapescopeError):
    """A shell command ended with a status other than 0, negative for the signal that ended it; or
    some of its output could not be written where it belongs."""

    def __init__(
        self,
        command: Sequence[str],
        exit_status: int,
        lines_not_recorded: int = 0,
        bytes_not_written: int = 0,
    ) -> None:
        self.command, self.exit_status = tuple(command), exit_status
        self.lines_not_recorded, self.bytes_not_written = lines_not_recorded, bytes_not_written
        text = (
            f"The command ended with exit status {exit_status}"
            if exit_status >= 0
            else f"The command was ended by signal {-exit_status}"
        )
        if bytes_not_written:
            text += f", and {bytes_not_written:,} bytes of its output could not be written"
        super().__init__(f"{text}.")


class Retry(TapescopeError):
    """Raised by a runner that wants another attempt: the retry policy is not asked for whom.

    ``in_`` is in seconds from the end of this attempt; without it the policy says when. It spends a
    retry as a failure does, and with none left the task fails with this error.
    """

    def __init__(self, message: str = "", *, in_: float | None = None) -> None:
        """Raises ``BadSetting`` for what is not a number of seconds, 0 or more."""
        if in_ is not None and (isinstance(in_, bool) or not 0 <= in_ <= _LONGEST_WAIT):
            raise BadSetting("in_", in_, f"a number of seconds from 0 to {_LONGEST_WAIT:,}")
        self.message, self.in_ = message, in_
        super().__init__(message or "The runner asked for another attempt.")


class GiveUp(TapescopeError):
    """Raised by a runner for which no other attempt would end better: the task fails at once."""

    def __init__(self, message: str = "") -> None:
        self.message = message
        super().__init__(message or "The runner gave up: no other attempt would end better.")


class BadSpool(TapescopeError):
    """A spool file that cannot be read back."""

    def __init__(self, path: object, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"The spool file {str(path)!r} cannot be replayed: {why}. It was left as it is."
        )


class TapeGap(TapescopeError):
    """A follower would have received an event out of sequence (invariant I9)."""

    def __init__(self, task_id: str, expected: int, found: int) -> None:
        self.task_id, self.expected, self.found = task_id, expected, found
        super().__init__(
            f"The tape of task {task_id} has event {found} where {expected} belongs. "
            "Read the tape again from its start; a tape that was deleted cannot be read again."
        )


class DamagedTape(TapescopeError):
    """A ``final`` that cannot be read: a session wrote it past tapescope."""

    def __init__(self, task_id: str, why: str) -> None:
        self.task_id, self.why = task_id, why
        super().__init__(
            f"The final of task {task_id} cannot be read: {why}. It was written past tapescope: "
            f"'tapescope tape {task_id}' shows the tape."
        )


# --- the store ------------------------------------------------------------------------------------


class StoreConfigError(TapescopeError):
    """A store that cannot be used as it is configured."""


class BadStoreUrl(StoreConfigError):
    """A store URL that cannot be read. Neither the message nor ``url`` shows the password."""

    def __init__(self, url: str, why: str) -> None:
        url = hide_password(url)
        self.url, self.why = url, why
        super().__init__(
            f"The store URL {url!r} cannot be used: {why}. "
            "Examples: sqlite:///tasks.db, sqlite:////var/lib/tasks.db, postgresql://user@host/db."
        )


class UnknownStoreScheme(StoreConfigError):
    """A store URL whose scheme no installed store has."""

    def __init__(self, scheme: str, known: Sequence[str]) -> None:
        self.scheme, self.known = scheme, tuple(known)
        super().__init__(
            f"No installed store has the scheme {scheme!r}. Known here: "
            f"{', '.join(known) or 'none'}. "
            "Check the URL; a package adds a scheme through the entry-point group "
            "'tapescope.stores'."
        )


class SchemeTaken(StoreConfigError):
    """A store URL whose scheme several installed packages have: none of them is chosen."""

    def __init__(self, scheme: str, packages: Sequence[str]) -> None:
        self.scheme, self.packages = scheme, tuple(packages)
        super().__init__(
            f"The scheme {scheme!r} of a store's URL is registered by several packages: "
            f"{', '.join(packages)}. Uninstall all but one, or have one register another scheme."
        )


class MissingExtra(StoreConfigError):
    """A part of tapescope that needs packages which are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs more packages: pip install 'tapescope[{extra}]'")


class SchemaTooNew(StoreConfigError):
    """The database was migrated by a newer tapescope."""

    def __init__(self, found: int, known: int) -> None:
        self.found, self.known = found, known
        super().__init__(
            f"The database has schema version {found}; this tapescope knows {known}. "
            "Upgrade tapescope, or use another database."
        )


class SchemaTooOld(StoreConfigError):
    """The database lacks migrations, and this opening may not run them.

    ``store`` is the store's URL as a person may see it.
    """

    def __init__(self, found: int, needed: int, store: str) -> None:
        self.found, self.needed, self.store = found, needed, store
        super().__init__(
            f"The store has schema version {found}; this tapescope needs version {needed}. "
            f"Migrate it: tapescope migrate --store {shlex.quote(store)}"
        )


class SchemaForbidden(StoreConfigError):
    """The database role may not create the tables that the store needs."""

    def __init__(self, schema: str, why: str) -> None:
        self.schema, self.why = schema, why
        super().__init__(
            f"The tables of schema {schema!r} cannot be created: {why}. Open the store once as a "
            "role that may create them, or grant this role CREATE."
        )


class SchemaNotOwn(StoreConfigError):
    """Another role owns the schema, or may make things in it: it could take the store over."""

    def __init__(self, schema: str, owner: str) -> None:
        self.schema, self.owner = schema, owner
        super().__init__(
            f"Schema {schema!r} has no store yet, and is not this role's alone: its owner is "
            f"{owner!r}. Who owns it, or may make things in it, could take the store over. Name "
            "another schema, have it made with AUTHORIZATION for this role, or add "
            "adopt_schema=true to the store's URL."
        )


class RightsMissing(StoreConfigError):
    """The database role may not do what writes to the store need: a reader's cannot be a worker."""

    def __init__(self, store: str, schema: str, rights: Sequence[str]) -> None:
        self.store, self.schema, self.rights = store, schema, tuple(rights)
        super().__init__(
            f"The user of the store {store} may not write in its schema {schema!r}: it lacks "
            f"{', '.join(rights)}. Give it what 'tapescope migrate --print-grants worker' prints, "
            "or connect as another role."
        )


class StoreAuthFailed(StoreConfigError):
    """The database server refused the user. The message never shows the password."""

    def __init__(self, user: str, database: str, why: str) -> None:
        self.user, self.database, self.why = user, database, why
        super().__init__(
            f"The server did not let user {user!r} into database {database!r}: {why}. "
            "Check the user, the password and the database in the store URL."
        )


class StoreNotFound(StoreConfigError):
    """There is no store at the URL, and this opening may not make one; nothing was made."""

    def __init__(self, store: str, why: str = "") -> None:
        self.store, self.why = store, why
        super().__init__(
            f"There is no store at {store}{f' ({why})' if why else ''}. Check --store or "
            "TAPESCOPE_STORE. A store is made by the first 'tapescope run', 'submit' or 'worker' "
            "on it, or by 'tapescope migrate'."
        )


class EngineUnfit(TapescopeError):
    """An engine that cannot be used as it is set up. ``engine`` is where it is."""

    def __init__(self, engine: str, why: str) -> None:
        self.engine, self.why = engine, why
        super().__init__(f"The engine {engine} cannot be used: {why}.")


class BadEngineUrl(TapescopeError):
    """An engine's URL that cannot be read. Neither the message nor ``url`` shows a password."""

    def __init__(self, url: str, why: str) -> None:
        url = hide_password(url)
        self.url, self.why = url, why
        super().__init__(
            f"The engine's URL {url!r} cannot be used: {why}. "
            "Example: temporal://temporal.internal:7233/namespace."
        )


class UnknownEngine(TapescopeError):
    """An engine's URL whose scheme no installed engine has."""

    def __init__(self, scheme: str, known: Sequence[str]) -> None:
        self.scheme, self.known = scheme, tuple(known)
        super().__init__(
            f"No installed engine has the scheme {scheme!r}. Known here: {', '.join(known)}. "
            "Check the URL; a package adds a scheme through the entry-point group "
            "'tapescope.engines'."
        )


class EngineUnavailable(TapescopeError):
    """An engine that cannot be reached now. Its tasks are in the store, and wait."""

    def __init__(self, engine: str, why: str) -> None:
        self.engine, self.why = engine, why
        super().__init__(f"The engine {engine} cannot be reached: {why}. Its tasks wait.")


class StoreUnavailable(TapescopeError):
    """The store cannot be reached; nothing of this call was written."""

    def __init__(self, store: str, why: str) -> None:
        self.store, self.why = store, why
        super().__init__(self._explain())

    def _explain(self) -> str:
        return (
            f"The store {self.store} cannot be reached: {self.why}. Check that the store runs and "
            "that this process may use it, then try again."
        )


class StoreBusy(StoreUnavailable):
    """The store is there, and others have it for now; nothing of this call was written."""

    def _explain(self) -> str:
        return (
            f"The store {self.store} is busy: {self.why}. Try again, or wait longer for it with "
            "?patience=SECONDS in its URL."
        )


class StoreFull(StoreUnavailable):
    """The disk of the store is full; nothing of this call was written."""

    def _explain(self) -> str:
        return (
            f"The store {self.store} has no room: {self.why}. Make room on its disk, then try "
            "again; deleting tasks needs some room, too."
        )


class StoreRefused(TapescopeError):
    """The database refused a call, and would again; nothing of the call was written."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The database refused the call: {why}. Trying again will not help; if an invariant is "
            "named, 'tapescope audit' shows which tapes break it."
        )


class StoreClosed(TapescopeError):
    """The store was closed, or was never opened."""

    def __init__(self) -> None:
        super().__init__("The store is not open. Use it inside 'async with', or call open() first.")


class StoreReadOnly(TapescopeError):
    """A verb that writes, on a store that was opened to be read."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(
            f"The store {store} was opened to be read, and nothing was written. Open it with "
            "OpenMode.EXISTING to write to it."
        )


# --- the manager ----------------------------------------------------------------------------------


class ManagerClosed(TapescopeError):
    """A submit to a manager that takes no tasks, or no more; or a wait for a task that has not
    ended when the manager is closed."""

    def __init__(self, task_id: str | None = None) -> None:
        self.task_id = task_id
        if task_id is None:
            text = "The manager is shutting down or not open. Submit inside its 'async with'."
        else:
            text = (
                f"The manager was closed before task {task_id!r} ended, which goes on without it. "
                "Follow the task again from another manager, after the last seq that was seen."
            )
        super().__init__(text)


class ManagerOpen(TapescopeError):
    """A change to the settings of a manager that is open."""

    def __init__(self) -> None:
        super().__init__(
            "The manager is open: its settings stay. Change them before 'async with', or after it."
        )


class ManagerUnclear(TapescopeError):
    """An op was submitted, and no manager that is open is the only one that has it."""

    def __init__(self, op: str, found: int) -> None:
        self.op, self.found = op, found
        if found:
            text = (
                f"{found} managers that have the op {op!r} are open in this event loop. Say which "
                "one is meant, with op.options(manager=manager).submit(…)."
            )
        else:
            text = (
                f"No manager that has the op {op!r} is open in this event loop. Open one, as in "
                "'async with TaskManager(url, ops=ops)', or name one, with "
                "op.options(manager=manager).submit(…)."
            )
        super().__init__(text)


class OpTaken(TapescopeError):
    """A second runner for an op that has one."""

    def __init__(self, op: str, runner: object, other: object) -> None:
        self.op, self.runner, self.other = op, runner, other
        super().__init__(
            f"The op {op!r} is registered with {_show(runner)}; it cannot be run by {_show(other)} "
            "as well. "
            "Submit the op by its name alone, or give the second runner an op of its own."
        )


class HookMisused(TapescopeError):
    """A hook around a run or a submit that did what no hook may."""

    def __init__(self, hook: object, why: str) -> None:
        self.hook, self.why = hook, why
        super().__init__(
            f"The hook {_show(hook)} is not right: {why}. Call 'proceed' once, and return what it "
            "gives or what is to take its place."
        )


class ResourceFailed(TapescopeError):
    """A resource that a runner needs could not be opened."""

    def __init__(self, resource: str, why: str) -> None:
        self.resource, self.why = resource, why
        super().__init__(
            f"The resource {resource} could not be opened: {why}. The runners of its ops need it: "
            "mend what it says, and open the manager again."
        )


class TaskNotEnded(TapescopeError):
    """A retry of a task that has not ended."""

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(
            f"Task {task_id} is {status}: it has not ended, and may still do its work. Wait for "
            "its end, or cancel it first."
        )


class TaskEnded(TapescopeError):
    """A message for a task that has ended: it was not stored."""

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(
            f"Task {task_id} has ended as {status} and takes no message any more: this one was not "
            "stored. Submit a new task for it, or send earlier."
        )


class InboxFull(TapescopeError):
    """A message for a task that has as many as it may that it has not taken: it was not stored."""

    def __init__(self, task_id: str, most: int) -> None:
        self.task_id, self.most = task_id, most
        super().__init__(
            f"Task {task_id} has {most:,} messages that it has not taken, and this one was not "
            "stored. Wait until its runner has taken some, and see that it takes any."
        )


class MessageTooLarge(TapescopeError):
    """A message whose JSON text is over the limit: it was not stored."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"The message has {size:,} bytes of JSON, over the limit of {limit:,}. Keep the data "
            "elsewhere and send where it is."
        )


class MessageConflict(TapescopeError):
    """Another message was sent to the task under the same key: this one was not stored."""

    def __init__(self, task_id: str, key: str, n: int) -> None:
        self.task_id, self.key, self.n = task_id, key, n
        super().__init__(
            f"The key {key!r} belongs to message {n} of task {task_id}, which says something else. "
            "Use another key, or send the same message."
        )


class OpNotRegistered(TapescopeError):
    """A task whose op no worker of the store can run."""

    def __init__(self, op: str) -> None:
        self.op = op
        super().__init__(
            f"No worker of this store has registered the op {op!r}: its tasks are run by the "
            "program that submits them. Run that program again, or start a worker that registers "
            "the op."
        )


class OpFull(TapescopeError):
    """A submit that was refused, for as many tasks of its op wait as may; nothing was written."""

    def __init__(self, op: str, waiting: int, most: int) -> None:
        self.op, self.waiting, self.most = op, waiting, most
        super().__init__(
            f"The op {op!r} is full: {waiting:,} of its tasks wait, and {most:,} may. Submit it "
            "again when some have begun, start more workers, or register it with a higher "
            "'max_waiting'."
        )


class CannotListen(TapescopeError):
    """An address on which the health listener, or the server, cannot listen."""

    def __init__(
        self,
        host: str,
        port: int,
        why: str,
        *,
        option: str = "port",
        what: str = "Metrics and health",
    ) -> None:
        self.host, self.port, self.why, self.option, self.what = host, port, why, option, what
        super().__init__(
            f"{what} cannot be served on {host} port {port}: {why}. "
            f"Choose another {option}; 0 takes a free one."
        )


class BlockingCallOnLoop(TapescopeError):
    """A thread's blocking report was called on the event loop's own thread."""

    def __init__(self, method: str) -> None:
        self.method = method
        super().__init__(
            f"{method}() blocks until the event is stored, and this is the event loop's thread, "
            "which would wait for itself. Await the asynchronous reporter here."
        )


class WouldBlockLoop(TapescopeError):
    """A call of ``tapescope.sync``, or of a ``SyncClient``, in an event loop, which would stand
    still until it returns."""

    def __init__(self, instead: str = "a TaskManager", door: str = "SyncManager") -> None:
        self.instead, self.door = instead, door
        super().__init__(
            f"This call waits, and an event loop runs in this thread. Await the same of {instead} "
            "here, or have a thread wait: await asyncio.to_thread(…). In a notebook, whose cells "
            f"run in a loop, say {door}(…, block_loop=True)."
        )


class UsedAfterFork(TapescopeError):
    """A manager or store was used in a child process that was forked from its own."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"This {what} belongs to the parent process. Make a new {what} in the child."
        )


class UsedInAnotherLoop(TapescopeError):
    """A manager or store was used in another event loop than the one that it was opened in."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"This {what} was opened in another event loop. Use it there: "
            "asyncio.run_coroutine_threadsafe() reaches that loop from another thread. Or close it "
            "there, and open it again in this loop."
        )


# --- a server and its client ----------------------------------------------------------------------


class ServerUnavailable(TapescopeError):
    """The server did not answer within the client's patience, or said that it cannot for now."""

    def __init__(self, server: str, why: str) -> None:
        self.server, self.why = server, why
        super().__init__(
            f"The server {server} cannot be used now: {why.rstrip('.')}. Check that it runs "
            "('tapescope serve') and that this is its URL, then try again."
        )


class ServerFailed(TapescopeError):
    """The server met an error of its own; what it is stands in the server's log."""

    def __init__(self, server: str, status: int, name: str, detail: str) -> None:
        self.server, self.status, self.name, self.detail = server, status, name, detail
        super().__init__(f"The server {server} failed ({name}): {detail}")


class ServerNotUnderstood(TapescopeError):
    """What answered is not a server of tapescope, or one of another version."""

    def __init__(self, server: str, why: str) -> None:
        self.server, self.why = server, why
        super().__init__(
            f"The answer of {server} cannot be read: {why.rstrip('.')}. Check that this is the URL "
            "of a 'tapescope serve', with the path under which a proxy has it, and that its "
            "version is that of this client."
        )


class RequestRefused(TapescopeError):
    """A request that the server refuses, for a reason that no other error has.

    ``name`` is the error's name as the server gives it.
    """

    def __init__(self, server: str, status: int, name: str, detail: str) -> None:
        self.server, self.status, self.name, self.detail = server, status, name, detail
        super().__init__(self._explain())

    def _explain(self) -> str:
        return f"The server {self.server} refuses this ({self.name}): {self.detail}"


class TokenRefused(RequestRefused):
    """The server knows no such token, or was sent none and needs one."""

    def _explain(self) -> str:
        return (
            f"The server {self.server} does not know who asks: {self.detail} A client sends the "
            "token that it was given, else that of TAPESCOPE_TOKEN; 'tapescope token add' makes "
            "one."
        )


class ScopeMissing(RequestRefused):
    """The token is good, and is not for this."""

    def _explain(self) -> str:
        return (
            f"The token may not do this at {self.server}: {self.detail} 'tapescope token add "
            "--scope' makes one that may."
        )


class ClientClosed(TapescopeError):
    """A client that is closed, or was closed while it waited."""

    def __init__(self, server: str) -> None:
        self.server = server
        super().__init__(f"The client of {server} is closed. Open another one.")
