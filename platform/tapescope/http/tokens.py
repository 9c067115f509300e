"""Tokens: what a program shows to the server, and the file that knows them by their hashes.

A token is 256 random bits. So one SHA-256 of it is enough to keep: nobody can guess what was
hashed, which is what a slow hash and a salt are for where people choose the secret.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import orjson

from tapescope.errors import BadSetting, TapescopeError
from tapescope.http.access import Caller, Grant
from tapescope.model.times import format_time, parse_time
from tapescope_telemetry.logger import Logger

__all__ = ["BadTokenFile", "KnownToken", "TokenFile"]

_log = Logger("tapescope")

_PREFIX: Final = "tapescope_"
"""What a token begins with, so that a search for leaked secrets finds it."""
_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class BadTokenFile(TapescopeError):
    """A file of tokens that cannot be used. While it cannot, no token is known."""

    def __init__(self, path: object, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"The token file {str(path)!r} cannot be used: {why}. Mend it, or name another with "
            "--tokens."
        )


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as its file knows it."""

    name: str
    """Whom it was made out to."""
    digest: str
    """The SHA-256 of the token, as 64 hexadecimal digits."""
    grants: frozenset[Grant]
    created_us: int
    """When it was made, in microseconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of the file, and of which state of it."""

    stamp: object
    tokens: tuple[KnownToken, ...]


class TokenFile:
    """The tokens in a JSON file that its user alone can read; read again when it has changed.

    Once a process has seen the file, requests need a token for as long as it runs, also when the
    file goes away: what is lost never opens the door.
    """

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self.path = path
        self._seen = False
        self._last: _Read | None = None
        self._told: str | None = None

    # --- asked by the server ----------------------------------------------------------------------

    @property
    def required(self) -> bool:
        """Whether a request needs a token: there is a file, or there was one."""
        self._seen = self._seen or self.path.exists()
        return self._seen

    def find(self, token: str) -> Caller | None:
        """Whom the token was made out to; ``None`` for one that is not known, or no more.

        A file that cannot be read knows no token, and the log says why.
        """
        found = self.find_known(token)
        return None if found is None else Caller(found.name, found.grants)

    def find_known(self, token: str) -> KnownToken | None:
        """The token as the file knows it. Every known hash is compared, each in constant time."""
        digest = _digest(token)
        found: KnownToken | None = None
        for one in self._read_or_none():
            if hmac.compare_digest(one.digest, digest):
                found = one
        return found

    def find_named(self, name: str) -> KnownToken | None:
        """The token that was made out to ``name``."""
        return next((one for one in self._read_or_none() if one.name == name), None)

    def _read_or_none(self) -> Sequence[KnownToken]:
        try:
            tokens = self.read()
        except BadTokenFile as error:
            if self._told != str(error):
                _log.error("No token is accepted: %s", error)
            self._told = str(error)
            return ()
        self._told = None
        return tokens

    def read(self) -> tuple[KnownToken, ...]:
        """The tokens, as the file has them now; none where there is no file.

        Raises ``BadTokenFile``.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._last = None
            return ()
        except OSError as error:
            raise BadTokenFile(self.path, str(error.strerror)) from error
        self._seen = True
        if stat.st_mode & 0o022:
            raise BadTokenFile(self.path, "other users may write to it (chmod 600 is right)")
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._last is None or self._last.stamp != stamp:
            self._last = _Read(stamp, self._parse())
        return self._last.tokens

    def _parse(self) -> tuple[KnownToken, ...]:
        try:
            content: Any = orjson.loads(self.path.read_bytes())
            return tuple(map(_read_token, content["tokens"]))
        except OSError as error:
            raise BadTokenFile(self.path, str(error.strerror)) from error
        except (ValueError, TypeError, KeyError, BadSetting) as error:
            raise BadTokenFile(self.path, f"it is not what was written ({error})") from error

    # --- changed by its owner ---------------------------------------------------------------------

    def add(self, name: str, grants: Iterable[Grant], now: int) -> str:
        """Make a token out to ``name`` and give it: the file has its hash alone.

        ``now`` is in microseconds since the Unix epoch. Raises ``BadSetting`` for a name that is
        taken or malformed, or no grant, and ``BadTokenFile``.
        """
        if _NAME.fullmatch(name) is None:
            raise BadSetting("name", name, "1 to 64 of letters, digits, '_', '.', '@', '-'")
        granted = frozenset(grants)
        if not granted:
            raise BadSetting("scope", "", "given at least once")
        token = _PREFIX + secrets.token_urlsafe(_BYTES)

        def change(tokens: Sequence[KnownToken]) -> list[KnownToken]:
            if any(one.name == name for one in tokens):
                raise BadSetting("name", name, "one that no token has yet")
            return [*tokens, KnownToken(name, _digest(token), granted, now)]

        self._change(change)
        return token

    def revoke(self, name: str) -> bool:
        """Forget a token; whether there was one. Raises ``BadTokenFile``."""
        found = False

        def change(tokens: Sequence[KnownToken]) -> list[KnownToken]:
            nonlocal found
            left = [one for one in tokens if one.name != name]
            found = len(left) < len(tokens)
            return left

        self._change(change)
        return found

    def _change(self, change: Callable[[Sequence[KnownToken]], Sequence[KnownToken]]) -> None:
        """Write the file anew, whole or not at all, while no other process does."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self.path.parent):
                tokens = change(self.read())
                _replace(self.path, {"tokens": list(map(_write_token, tokens))})
        except OSError as error:
            raise BadTokenFile(self.path, str(error.strerror)) from error


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _write_token(token: KnownToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "sha256": token.digest,
        "scopes": sorted(map(str, token.grants)),
        "created_at": format_time(token.created_us),
    }


def _read_token(shape: Any) -> KnownToken:
    name, digest = shape["name"], shape["sha256"]
    if not (isinstance(name, str) and isinstance(digest, str) and _HASH.fullmatch(digest)):
        raise ValueError("a token has no name, or no hash")
    scopes = cast("list[object]", shape["scopes"])
    grants = frozenset(Grant.parse(str(one)) for one in scopes)
    return KnownToken(name, digest, grants, parse_time(shape["created_at"]))


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, content: object) -> None:
    """Write a file for its user's eyes alone, and let it take the place of the one before."""
    written, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(written, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
