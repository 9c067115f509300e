"""Where the URL of a store leads to, as far as a drill must know to take the store away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from tapescope.drills.errors import CannotDrill
from tapescope.store.lookup import hide_password

__all__ = ["Upstream", "find_upstream", "is_sqlite", "read_sqlite_path"]

_PORT: Final = 5432


@dataclass(frozen=True, slots=True)
class Upstream:
    """A PostgreSQL server as its URL names it; ``path`` is the Unix socket, where there is one."""

    url: str
    host: str
    port: int
    path: str | None

    def behind(self, port: int) -> str:
        """The URL of the same store, by way of this port of 127.0.0.1."""
        parts = urlsplit(self.url)
        login, at, _ = parts.netloc.rpartition("@")
        query = [(k, v) for k, v in parse_qsl(parts.query) if k not in ("host", "port")]
        netloc = f"{login}{at}127.0.0.1:{port}"
        return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query)))


def is_sqlite(url: str) -> bool:
    """Whether the store is a SQLite file."""
    return url.lower().startswith("sqlite:")


def read_sqlite_path(url: str) -> str:
    """The file of a SQLite store."""
    return unquote(urlsplit(url).path.removeprefix("/"))


def find_upstream(url: str) -> Upstream:
    """The server of a PostgreSQL store. Raises ``CannotDrill`` where the URL does not say."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise CannotDrill(hide_password(url), "only SQLite and PostgreSQL can be taken away")
    query = dict(parse_qsl(parts.query))
    first = urlsplit(f"//{parts.netloc.rpartition('@')[2].partition(',')[0]}")
    host = first.hostname or query.get("host", "")
    port = first.port or int(query.get("port", _PORT))
    if not host:
        raise CannotDrill(hide_password(url), "its URL does not name the server's host")
    return Upstream(url, host, port, f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None)
