"""From a store URL to what the driver is given and what a person may see: never the password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tapescope.errors import BadSetting, BadStoreUrl
from tapescope_adapters._parameters import pop_patience, pop_tape_events

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
    pooled: bool = False
    """A pooler stands before the server and gives its sessions away after each transaction."""
    listens_at: Address | None = None
    """Where to listen instead, for a LISTEN behind a pooler hears nothing."""
    patience: float | None = None
    """Seconds, where the URL says so."""
    tape_events: int | None = None
    """The limit of a tape, where the URL says so."""

    @classmethod
    def of_pool(cls, schema: str) -> Address:
        """The place that a pool of the caller's leads to. Raises ``BadSetting``."""
        if not _SCHEMA.fullmatch(schema):
            raise BadSetting("schema", schema, "a name of a-z, 0-9 and '_', not pg_…")
        name = f"postgresql://(a pool)?schema={schema}"
        return cls("", schema, name, "(the pool's)", "(the pool's)", pooled=True)


def parse_url(url: str) -> Address:
    """Read ``postgresql://user:password@host:port/database?schema=tapescope``.

    ``?host=/folder`` names a Unix socket. ``pooler=transaction`` says that a pooler in transaction
    mode answers there; then ``listen_host`` and ``listen_port`` name the server itself.
    ``patience`` is in seconds, ``tape_events`` the limit of a tape. Other parameters are the
    driver's. Raises ``BadStoreUrl``, whose message and attributes hold no password.
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
        raise BadStoreUrl(shown, "the port is not a number")
    given = dict(query)
    schema = given.pop("schema", "tapescope")
    if not _SCHEMA.fullmatch(schema):
        raise BadStoreUrl(shown, f"{schema!r} is not a schema name of a-z, 0-9 and '_'")
    patience, tape_events = pop_patience(given, shown), pop_tape_events(given, shown)
    pooler = given.pop("pooler", None)
    server = {k: given.pop(f"listen_{k}") for k in ("host", "port") if f"listen_{k}" in given}
    if pooler not in (None, "transaction"):
        raise BadStoreUrl(shown, f"pooler is 'transaction' or not there, not {pooler!r}")
    if bool(server) != bool(pooler):
        raise BadStoreUrl(
            shown,
            "a pooler needs listen_host or listen_port, which name the server itself, for LISTEN"
            if pooler
            else "listen_host and listen_port go with pooler=transaction",
        )
    if not server.get("port", "5432").isdecimal():
        raise BadStoreUrl(shown, "the listen_port is not a number")
    database = unquote(parts.path.removeprefix("/"))
    dsn = f"{parts.scheme}://{parts.netloc}{parts.path}"
    show = {name: value for name, value in given.items() if name in _SHOWN_PARAMETERS}
    name = f"postgresql://{user + '@' if user else ''}{hosts}{parts.path}"
    found = Address(
        dsn=f"{dsn}?{urlencode(given)}" if given else dsn,
        schema=schema,
        name=f"{name}?{urlencode({**show, 'schema': schema}, safe='/')}",
        user=given.get("user") or unquote(user) or "(the default)",
        database=given.get("database") or given.get("dbname") or database or "(the default)",
        patience=patience,
        tape_events=tape_events,
    )
    if not server:
        return found
    ours = urlsplit(f"//{hosts.partition(',')[0]}")
    at = {"host": ours.hostname or given.get("host", ""), "port": ours.port or given.get("port")}
    direct = urlencode({name: at for name, at in {**given, **at, **server}.items() if at})
    dsn = f"{parts.scheme}://{login + '@' if login else ''}{parts.path}?{direct}"
    return replace(found, pooled=True, listens_at=replace(found, dsn=dsn))


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
