"""What a browser holds in the place of a token: who it is, until when, and a seal on both.

A token in a cookie would go to every service of the same host name, whatever its port. The seal is
made with a key of this server and with the token's hash, so neither a stolen file of hashes nor a
stolen key makes one, and a token that is revoked takes its cookies with it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tapescope.http.access import Caller
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.http.tokens import KnownToken, TokenFile

__all__ = ["COOKIE", "COOKIE_SECONDS", "Cookies"]

COOKIE: Final = "tapescope"
COOKIE_SECONDS: Final = 12 * 3_600
"""How long a cookie is good for: a working day."""
_KEY_BYTES: Final = 32

_log = Logger("tapescope")


class Cookies:
    """Makes and reads the cookies of one file of tokens.

    Its key is in a file beside that one, for its user's eyes alone, so that a cookie outlives a
    restart, and is good for every server that has both files. Where it cannot be kept there, the
    key is this process's, and a restart asks for the token again.
    """

    def __init__(self, tokens: TokenFile) -> None:
        """Read and write nothing yet."""
        self._tokens = tokens
        self._key: bytes | None = None

    def make(self, known: KnownToken, now: int) -> str:
        """A cookie for the owner of this token; ``now`` in seconds since the Unix epoch."""
        head = f"{known.name}.{now + COOKIE_SECONDS}"
        return f"{head}.{self._seal(head, known)}"

    def find(self, cookie: str, now: int) -> Caller | None:
        """Whose cookie it is; ``None`` for one that is forged, too old, or of a token that is no
        more."""
        head, _, seal = cookie.rpartition(".")
        name, _, until = head.rpartition(".")
        if not (until.isascii() and until.isdecimal() and len(until) < 16) or int(until) <= now:
            return None
        known = self._tokens.find_named(name)
        if known is None or not hmac.compare_digest(
            seal.encode(errors="replace"), self._seal(head, known).encode()
        ):
            return None
        return Caller(known.name, known.grants)

    def _seal(self, head: str, known: KnownToken) -> str:
        if self._key is None:
            self._key = _keep_key(self._tokens.path.with_suffix(".cookies"))
        sealed = f"{head}.{known.digest}".encode()
        return hmac.new(self._key, sealed, hashlib.sha256).hexdigest()


def _keep_key(path: Path) -> bytes:
    """The key that is kept there, made where there is none."""
    try:
        if not path.exists():
            _write_key(path)
        return _read_key(path)
    except (OSError, ValueError) as error:
        _log.warning(
            "Cookies are good until this server ends: their key cannot be kept in %s (%s).",
            path,
            error,
        )
        return secrets.token_bytes(_KEY_BYTES)


def _write_key(path: Path) -> None:
    """Make a key, whole or not at all; one that another process has made meanwhile stays."""
    written, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(written, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _read_key(path: Path) -> bytes:
    """Raises ``ValueError`` for what is not a key that this user alone knows."""
    if path.stat().st_mode & 0o077:
        raise ValueError("other users may read it; chmod 600 is right")
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"it does not have {_KEY_BYTES} bytes; remove it")
    return key
