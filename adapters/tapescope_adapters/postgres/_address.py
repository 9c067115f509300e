"""From a store URL to what the driver is given and what a person may see: never the password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tapescope.errors import BadStoreUrl

__all__ = ["Address", "parse_url"]

_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_SHOWN_PARAMETERS: Final = ("host", "port", "user", "dbname", "database")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is: a server, a database, and a schema of that database."""

    dsn: str = field(repr=False)
    """The driver's own URL, with the password: not for logs, errors or spans."""
    schema: str
    name: str
    """The store's URL as a person may see it."""
    user: str
    database: str


def parse_url(url: str) -> Address:
    """Read ``postgresql://user:password@host:port/database?schema=tapescope``.

    ``?host=/folder`` names a Unix socket; other parameters are the driver's. Raises
    ``BadStoreUrl``, whose message and attributes hold no password.
    """
    shown = _without_password(url)
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise BadStoreUrl(shown, "it is malformed") from None  # the cause would quote the URL
    if parts.scheme not in ("postgresql", "postgres"):
        raise BadStoreUrl(shown, "a PostgreSQL URL begins with postgresql://")
    if "@" in parts.path + parts.query or parts.fragment:
        raise BadStoreUrl(shown, "write '@' as %40, '#' as %23, '/' as %2F and '?' as %3F in it")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, _ = login.partition(":")
    if any(not _is_port(host) for host in hosts.split(",")):
        raise BadStoreUrl(shown, "the port is no number")
    given = dict(query)
    schema = given.pop("schema", "tapescope")
    if not _SCHEMA.fullmatch(schema):
        raise BadStoreUrl(shown, f"{schema!r} is no schema name of a-z, 0-9 and '_'")
    database = unquote(parts.path.removeprefix("/"))
    dsn = f"{parts.scheme}://{parts.netloc}{parts.path}"
    show = {name: value for name, value in given.items() if name in _SHOWN_PARAMETERS}
    name = f"postgresql://{user + '@' if user else ''}{hosts}{parts.path}"
    return Address(
        dsn=f"{dsn}?{urlencode(given)}" if given else dsn,
        schema=schema,
        name=f"{name}?{urlencode({**show, 'schema': schema}, safe='/')}",
        user=given.get("user") or unquote(user) or "(the default)",
        database=given.get("database") or given.get("dbname") or database or "(the default)",
    )


def _is_port(host: str) -> bool:
    bare = host.rpartition("]")[2] if host.startswith("[") else host
    _, colon, port = bare.rpartition(":")
    return not colon or not port or (port.isdecimal() and int(port) < 65_536)


def _without_password(url: str) -> str:
    """Hide all from the user's colon to the last ``@``: an unescaped password may hold anything."""
    start = url.find("://") + 3 if "://" in url else 0
    at = url.rfind("@")
    if at > start:
        user, colon, _ = url[start:at].partition(":")
        url = url[:start] + user + (":***" if colon else "") + url[at:]
    return re.sub(r"([?&]\w*pass\w*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)
