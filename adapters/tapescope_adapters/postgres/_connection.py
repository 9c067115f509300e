"""Connections that are replaced when they die, and the driver's errors in the port's words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from tapescope.errors import BadStoreUrl, StoreAuthFailed, StoreConfigError, StoreNotFound
from tapescope.store import (
    FateUnknown,
    FlushBlocked,
    FlushRefused,
    StoreAway,
    StoreLocked,
    StoreOutOfRoom,
)
from tapescope_adapters.postgres._names import qualify
from tapescope_adapters.postgres._url import Address
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

__all__ = [
    "DRIVER_ERRORS",
    "DURABLE",
    "EMPTY_QUEUE",
    "LOOK_AGAIN",
    "Connector",
    "Lane",
    "SharedConnections",
    "as_away",
    "close",
    "drop",
    "is_gone",
    "translate",
]

T = TypeVar("T")

_log = Logger("tapescope")

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)
"""All that the driver raises."""

_LOCK_TIMEOUT: Final = 100
"""Milliseconds a flush waits for a row that another session holds before it is blocked. Another
store's session holds one for the length of a flush; whoever else is in this flush waits, too."""
_SHORT_WAIT: Final = qualify("set_config('lock_timeout', '10', true), ")
"""The setting of a flush that was blocked before, for its transaction: many may stand in line."""
_READERS: Final = 4
_SOUND_FOR: Final = 1.0
"""Seconds after its last use for which a connection is taken for sound without being asked."""
_ANSWER: Final = 3.0
"""Seconds that the server has to say that it is still there."""

_CARRIED: Final = {
    relaxed: qualify(
        f"set_config('lock_timeout', '{_LOCK_TIMEOUT}', true), "
        f"set_config('synchronous_commit', {level}, true), "
    )
    for relaxed, level in (
        (True, "'off'"),
        # as below: what is stricter than 'on', or the server's own choice of it, stays
        (False, "replace(current_setting('synchronous_commit'), 'off', 'on')"),
    )
}
"""The settings of a write where the session keeps none, for its transaction, by ``relaxed``."""

_BLOCKED: Final = ("55P03", "40P01", "40001", "57014")
"""Lock timeout, deadlock, serialization failure, cancelled statement: nothing was written."""
_QUIET: Final = qualify("set_config('tapescope.quiet', 'on', true), ")
"""The setting of a write, for its transaction, with which the schema's functions notify nobody."""
_IF_QUIET: Final = "/*quiet*/"
"""Where it goes in the SQL."""
EMPTY_QUEUE: Final = qualify("SELECT pg_notification_queue_usage()")
"""The server looks who has read what, and takes that out of the queue: a commit that finds the
queue full does not."""
LOOK_AGAIN: Final = qualify("SELECT pg_notify($1, '|*|cw')")
"""Every other process looks at its tapes, for tasks to work on, and for cancels."""
_QUIET_FOR: Final = 1.0
"""Seconds after which there may be room for notifications again."""
DURABLE: Final = qualify(
    "SELECT set_config('synchronous_commit', $1, false) "
    "WHERE $1 = 'off' OR current_setting('synchronous_commit') = 'off'"
)
"""An acknowledged event is durable (I6), also where the server's default is off."""
_DISK_FULL: Final = "53100"
_TOO_MANY: Final = "53300"
"""Connections: the server is there, and has no place for one more."""
_LOST: Final = ("08", "57P")
"""The connection, or the server behind it, is going: what was sent may have been done."""
_AWAY: Final = ("53", "58", "25006")
"""Out of resources, I/O error, read-only standby: not done, may pass."""


def translate(error: BaseException, *, sent: bool) -> Exception:
    """A driver's error as one of the four that a flush may end with.

    ``sent`` says whether the server may have been given the flush.
    """
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate or "")
        why = str(error).partition("\n")[0]  # what follows may quote the row
        if code in _BLOCKED:
            return FlushBlocked(why)
        if is_queue_full(error):
            return StoreAway(why)
        if code == _DISK_FULL:
            return StoreOutOfRoom(why)
        if code == _TOO_MANY:
            return StoreLocked(why)
        if code.startswith(_AWAY):
            return StoreAway(why)
        if code.startswith(_LOST):
            return FateUnknown(why) if sent else StoreAway(why)
        return FlushRefused(why)
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return FlushRefused(str(error))  # a value that has no place in its column
    why = str(error) or type(error).__name__
    return FateUnknown(why) if sent else StoreAway(why)


def as_away(error: Exception) -> StoreAway:
    """A flush's error for what is not one, and may be tried again: the server is there, or not."""
    return StoreLocked(str(error)) if isinstance(error, FlushBlocked) else StoreAway(str(error))


def is_queue_full(error: BaseException) -> bool:
    """Whether a commit was rolled back for the server's queue of notifications.

    Any session of the cluster that listens in a long transaction fills it.
    """
    return (
        isinstance(error, asyncpg.ProgramLimitExceededError)
        and "NOTIFY" in str(error)  # a keyword, in each language of a server's messages
    )


async def close(conn: Connection) -> None:
    """Take leave of the server; where it does not answer, hang up."""
    try:
        await conn.close(timeout=2)
    except DRIVER_ERRORS:
        drop(conn)


def drop(conn: Connection) -> None:
    """Hang up without a word to the server."""
    with suppress(asyncpg.InterfaceError):  # it died, and its pool has taken it from us
        conn.terminate()


def is_gone(conn: Connection) -> bool:
    """Whether the connection is closed, as far as can be known without asking the server."""
    try:
        return conn.is_closed()
    except asyncpg.InterfaceError:  # as above
        return True


class Connector:
    """Makes the connections of one store.

    Behind a pooler that gives a session away after each transaction (``address.pooled``) nothing is
    left in a session: no setting, no prepared statement.
    """

    keeps = True
    """Whether who has a connection may keep it for the next call."""

    def __init__(self, address: Address, *, patience: float, relaxed: bool) -> None:
        self.address = address
        self.patience = patience
        """Seconds that connecting or one call may take."""
        self._relaxed = relaxed
        self.quiet = False
        """Whether what is written is notified to nobody, for the server has no room for it."""
        self.refused = False
        """Whether that did not help, for the functions of the schema are of before they knew it."""
        self._quiet_until = 0.0

    @property
    def prepares(self) -> bool:
        """Whether a session keeps its settings and a prepared statement from call to call."""
        return not self.address.pooled

    @property
    def longest_pause(self) -> int:
        """Milliseconds between two calls of a transaction, after which the server ends it.

        Nobody else would where it is left: of a loop that was closed in the middle the connection
        stays open while the process lives, and with it every lock.
        """
        return max(1, round(1000 * self.patience))

    def with_session_settings(self, sql: str) -> str:
        """A flush's SQL, with the settings that no session keeps; its answer comes last."""
        if self.prepares:
            return sql.replace("/*settings*/", _IF_QUIET)
        return self.with_local_settings(sql)

    def with_local_settings(self, sql: str) -> str:
        """SQL that writes over a connection of the readers, which never keep the settings."""
        return sql.replace("/*settings*/", _CARRIED[self._relaxed] + _IF_QUIET)

    def hush(self) -> None:
        """Notify nobody for now: the server has refused a commit for its notification."""
        if self.quiet:
            self.refused = True
            return
        self.quiet = True
        self._quiet_until = asyncio.get_running_loop().time() + _QUIET_FOR
        _log.warning(
            "The server's queue of notifications is full: a session that listens is in a long "
            "transaction, which the server's log names. Until that ends, other processes hear late "
            "of what is written here to %s.",
            self.address.name,
        )

    async def quiet_as_needed(self, conn: Connection, sql: str) -> str:
        """The SQL of a write, so that it notifies nobody while there is no room.

        Where there is room again, every other process is told to look for what was not notified.
        """
        if self.quiet and asyncio.get_running_loop().time() >= self._quiet_until:
            await self._speak_again(conn)
        return sql.replace(_IF_QUIET, _QUIET) if self.quiet else sql

    async def _speak_again(self, conn: Connection) -> None:
        try:
            await conn.execute(EMPTY_QUEUE, timeout=self.patience)
            await conn.fetchval(LOOK_AGAIN, self.address.schema, timeout=self.patience)
        except asyncpg.ProgramLimitExceededError as error:
            if not is_queue_full(error):
                raise
            self._quiet_until = asyncio.get_running_loop().time() + _QUIET_FOR
        else:
            self.quiet = self.refused = False
            _log.info("The server has room for notifications again.")

    async def log_in(self, *, writes: bool = False) -> Connection:
        """A new connection.

        Raises ``StoreAway`` where it may be had later, else ``StoreAuthFailed``, ``StoreNotFound``,
        ``BadStoreUrl`` or ``StoreConfigError``.
        """
        address = self.address
        address.check_files()
        settings = {"application_name": address.application_name}
        if self.prepares:  # a pooler refuses what it does not know, or leaves it out
            settings |= {
                "lock_timeout": str(_LOCK_TIMEOUT),
                "jit": "off",
                "idle_in_transaction_session_timeout": str(self.longest_pause),
            }
        try:
            conn = await asyncpg.connect(
                address.dsn,
                timeout=min(self.patience, address.connect_timeout or self.patience),
                server_settings=settings,
                statement_cache_size=100 if self.prepares else 0,
            )
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise StoreAuthFailed(address.user, address.database, str(error)) from error
        except asyncpg.InvalidCatalogNameError as error:
            raise StoreNotFound(address.name, str(error)) from error
        except asyncpg.ClientConfigurationError as error:
            raise BadStoreUrl(address.name, str(error)) from error
        except DRIVER_ERRORS as error:
            translated = translate(error, sent=False)
            if isinstance(translated, FlushBlocked):
                translated = StoreLocked(str(translated))
            if isinstance(translated, FlushRefused):
                raise StoreConfigError(
                    f"The server refuses the connection of {address.name}: {translated}. Check the "
                    "settings in the URL, and the rights of its user."
                ) from error
            raise translated from error
        if writes and self.prepares:
            try:
                await conn.execute(DURABLE, "off" if self._relaxed else "on")
            except DRIVER_ERRORS as error:
                drop(conn)
                raise StoreAway(str(error)) from error
            except BaseException:  # cancelled: the connection is known only here
                drop(conn)
                raise
        return conn

    async def connect(self, *, writes: bool = False) -> Connection:
        """A new connection of an open store. Raises ``StoreAway``, whatever is the matter."""
        try:
            return await self.log_in(writes=writes)
        except StoreConfigError as error:
            raise StoreAway(str(error)) from error  # it let us in before

    async def let_go(self, conn: Connection) -> None:
        """Take back a sound connection that is needed no more."""
        await close(conn)


class Lane:
    """The connection of one write lane: one flush at a time."""

    def __init__(
        self, connector: Connector, call: str, traced_call: str, *, was_blocked: bool
    ) -> None:
        """``traced_call`` is for a flush with traces. ``was_blocked``: the lane of flushes that
        waited for a lock before."""
        self._connector = connector
        if was_blocked:
            call, traced_call = (
                one.replace("/*settings*/", f"/*settings*/{_SHORT_WAIT}")
                for one in (call, traced_call)
            )
        self._call = connector.with_session_settings(call)
        self._traced_call = connector.with_session_settings(traced_call)
        self._conn: Connection | None = None
        self._flush: PreparedStatement[asyncpg.Record] | None = None

    async def flush(self, arguments: Sequence[Any], *, traced: bool = False) -> str:
        """Call the flush function; ``traced`` where the arguments end with traces.

        Raises ``StoreAway``, ``FateUnknown``, ``FlushRefused`` or ``FlushBlocked``.
        """
        conn = await self.connect()
        try:
            patience = self._connector.patience
            call = self._traced_call if traced else self._call
            call = await self._connector.quiet_as_needed(conn, call)
            if self._flush is not None and not traced and not self._connector.quiet:
                row = await self._flush.fetchrow(*arguments, timeout=patience)
            else:
                row = await conn.fetchrow(call, *arguments, timeout=patience)
            assert row is not None, "a function call is one row"
            answer: str = row[-1]  # before it stand the settings
            self._connector.refused = False
        except DRIVER_ERRORS as error:
            if is_queue_full(error):
                self._connector.hush()
            raise await self._part(translate(error, sent=True)) from error
        except BaseException:  # cancelled in mid-call: the reply must not meet the next one
            self.hang_up()
            raise
        await self._rest()
        return answer

    async def fence(self, sql: str, lane: str, number: int) -> str | None:
        """Call the fence function. Raises ``FateUnknown`` whenever it cannot be told."""
        try:
            conn = await self.connect()
            stored: str | None = await conn.fetchval(
                sql, lane, number, timeout=self._connector.patience
            )
        except StoreAway as error:
            raise FateUnknown(str(error)) from error
        except DRIVER_ERRORS as error:
            await self._part(translate(error, sent=True))
            raise FateUnknown(str(error)) from error
        await self._rest()
        return stored

    async def connect(self) -> Connection:
        """The lane's connection, made where there is none. Raises ``StoreAway``."""
        if self._conn is None or is_gone(self._conn):
            self.hang_up()
            self._conn = await self._connector.connect(writes=True)
            if not self._connector.prepares:
                return self._conn
            try:
                self._flush = await self._conn.prepare(self._call, timeout=self._connector.patience)
            except DRIVER_ERRORS as error:
                self.hang_up()
                raise translate(error, sent=False) from error
        return self._conn

    async def _rest(self) -> None:
        """Give the connection back where it is lent for a call only."""
        if not self._connector.keeps and self._conn is not None:
            conn, self._conn = self._conn, None
            await self._connector.let_go(conn)

    async def _part(self, error: Exception) -> Exception:
        """Drop a connection that may be lost, rest one that is sound; gives the error."""
        if isinstance(error, StoreAway | FateUnknown):
            self.hang_up()
        else:
            await self._rest()
        return error

    def hang_up(self) -> None:
        """Drop the connection without a word; the next flush makes another."""
        if self._conn is not None:
            drop(self._conn)
        self._conn = self._flush = None

    async def aclose(self, forget: str, lane: str) -> None:
        """Delete the lane's row and take leave of the server."""
        conn, self._conn, self._flush = self._conn, None, None
        if conn is None and not self._connector.keeps:
            with suppress(StoreAway):  # as below
                conn = await self._connector.connect()
        if conn is None:
            return
        try:
            await conn.execute(forget, lane, timeout=self._connector.patience)
        except DRIVER_ERRORS:
            drop(conn)  # a row that is left goes when a store is opened a day later
        else:
            await self._connector.let_go(conn)


class SharedConnections:
    """A few connections that queries share; with ``writes``, calls that change something."""

    def __init__(self, connector: Connector, *, writes: bool = False) -> None:
        self._connector = connector
        self._writes = writes
        self._turns = asyncio.Semaphore(_READERS)
        self._idle: list[tuple[Connection, float]] = []
        """With the loop's time of the last use, the latest at the end."""
        self._closed = False
        self.used = self.waiting = 0
        """Calls that have one of the connections, and calls that wait for one."""

    @property
    def idle(self) -> int:
        """Connections that are kept for the next call; any thread may ask."""
        return len(self._idle)

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a query. Raises ``StoreAway``, ``FlushRefused``.

        With ``writes`` it raises what a flush may end with.
        """

        async def fetch(conn: Connection) -> list[asyncpg.Record]:
            call = await self._connector.quiet_as_needed(conn, sql)
            return await conn.fetch(call, *arguments, timeout=self._connector.patience)

        return await self.use(fetch)

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` gives on one of the connections. Raises as ``fetch``."""
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.used += 1
        try:
            return await self._use(work)
        finally:
            self.used -= 1
            self._turns.release()

    async def _use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        conn = await self._take()
        try:
            done = await work(conn)
        except DRIVER_ERRORS as error:
            drop(conn)
            if is_queue_full(error):
                self._connector.hush()
            met = translate(error, sent=self._writes)
            if self._writes or isinstance(met, FlushRefused | StoreAway):
                raise met from error
            raise as_away(met) from error
        except BaseException:  # cancelled in mid-query: its reply must not meet the next one
            drop(conn)
            raise
        await self.give(conn)
        return done

    async def _take(self) -> Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            conn, used = self._idle.pop()
            if is_gone(conn):
                continue
            if loop.time() - used < _SOUND_FOR or await self._answers(conn):
                return conn
            # On a half-open network the others say nothing either, each for as long.
            idle, self._idle = self._idle, []
            for other in idle:
                drop(other[0])
        return await self._connector.connect(writes=self._writes)

    async def _answers(self, conn: Connection) -> bool:
        """Whether the server is still there; a connection on which it is not is dropped."""
        try:
            await conn.execute("SELECT 1", timeout=min(_ANSWER, self._connector.patience / 3))
        except DRIVER_ERRORS:
            drop(conn)
            return False
        except BaseException:  # cancelled: as in use
            drop(conn)
            raise
        return True

    async def give(self, conn: Connection) -> None:
        """Keep a sound connection for the next query, if there will be one."""
        if not self._connector.keeps:
            await self._connector.let_go(conn)
        elif self._closed:
            drop(conn)  # its query outlasted the store
        else:
            self._idle.append((conn, asyncio.get_running_loop().time()))

    async def aclose(self) -> None:
        """Take leave of the server; a connection that is in use goes when its query has ended."""
        self._closed = True
        idle, self._idle = self._idle, []
        for conn, _ in idle:
            await close(conn)
