"""From a store URL to what the driver is given and what a person may see: never the password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tapescope.errors import BadSetting, BadStoreUrl
from tapescope.store import OpenMode, refuse_control_characters
from tapescope_adapters._parameters import COMMON_PARAMETERS, pop_common

__all__ = ["Address", "parse_url"]

_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_SCHEMA_RULE: Final = (
    "a name of at most 63 of a-z, 0-9 and '_' without a digit first; names that begin with 'pg_' "
    "are PostgreSQL's own"
)
_SHOWN_PARAMETERS: Final = ("host", "port", "user", "dbname", "database", "service")
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
_ALL_FILES: Final = (*_FILES, "passfile")
_DRIVERS_OWN: Final = (
    *("host", "port", "user", "password", "passfile", "dbname", "database", "service"),
    *("sslmode", "sslnegotiation", *_FILES, "sslpassword"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("target_session_attrs", "krbsrvname", "gsslib", "options"),
)
"""What the driver takes from the URL; ``options`` it hands to the server."""
_OURS: Final = (
    *COMMON_PARAMETERS,
    *(
        "schema",
        "adopt_schema",
        "pooler",
        "listen_host",
        "listen_port",
        "application_name",
        "connect_timeout",
    ),
)
_KEEPALIVE: Final = "a connection that does not answer is given up after 'patience' seconds"
_NO_SUCH_SETTING: Final = "the driver (asyncpg) has no such setting"
_REFUSED: Final = {
    "hostaddr": "write the address as the host",
    "client_encoding": "a store speaks UTF-8",
    "fallback_application_name": "use application_name",
    "requiressl": "use sslmode=require",
    "servicefile": "set PGSERVICEFILE in the environment",
    "channel_binding": f"{_NO_SUCH_SETTING}; sslmode=verify-full checks who answers",
    "require_auth": f"{_NO_SUCH_SETTING}; sslmode=verify-full checks who answers",
    "requirepeer": f"{_NO_SUCH_SETTING}; sslmode=verify-full checks who answers",
    "gssencmode": f"{_NO_SUCH_SETTING}; sslmode=require encrypts",
    "load_balance_hosts": f"{_NO_SUCH_SETTING}; the hosts are tried in their order",
    **dict.fromkeys(
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"), _KEEPALIVE
    ),
    "tcp_user_timeout": _KEEPALIVE,
    **dict.fromkeys(
        (
            *("gssdelegation", "replication", "sslcertmode", "sslcompression", "sslkeylogfile"),
            *("sslsni", "min_protocol_version", "max_protocol_version"),
            *("scram_client_key", "scram_server_key"),
            *("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
        ),
        _NO_SUCH_SETTING,
    ),
}
"""Parameters of libpq that the driver has not, each with why, or with what to use instead."""


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
    open_mode: OpenMode | None = None
    """Where the URL says so."""
    application_name: str = "tapescope"
    connect_timeout: float | None = None
    """Seconds that one try to connect may take, where the URL sets a limit."""
    adopts_schema: bool = False
    """Tables may be made in a schema in which another role may make things, too."""
    files: tuple[tuple[str, str], ...] = ()
    """Parameters that name a file which must be there, with its path."""

    def check_files(self) -> None:
        """Raises ``BadStoreUrl`` where a file that the URL names is not there."""
        for parameter, path in self.files:
            if not Path(path).is_file():
                raise BadStoreUrl(self.name, f"the file of {parameter}, {path!r}, is not there")

    @classmethod
    def of_pool(cls, schema: str) -> Address:
        """The place that a pool of the caller's leads to. Raises ``BadSetting``."""
        if not _SCHEMA.fullmatch(schema):
            raise BadSetting("schema", schema, _SCHEMA_RULE)
        name = f"postgresql://(a pool)?schema={schema}"
        return cls("", schema, name, "(the pool's)", "(the pool's)", pooled=True)


def parse_url(url: str) -> Address:
    """Read ``postgresql://user:password@host:port/database?schema=tapescope``.

    ``?host=/folder`` names a Unix socket. ``pooler=transaction`` says that a pooler in transaction
    mode answers there; then ``listen_host`` and ``listen_port`` name the server itself.
    ``patience`` is in seconds. Other parameters are those of libpq that the driver has. Raises
    ``BadStoreUrl``, whose message and attributes hold no password.
    """
    shown = _without_password(url)
    refuse_control_characters(url, shown)  # before urlsplit, which leaves some of them out
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
        raise BadStoreUrl(shown, f"the schema is {schema!r}; it must be {_SCHEMA_RULE}")
    common = pop_common(given, shown)
    application_name = given.pop("application_name", "tapescope")
    connect_timeout = _pop_connect_timeout(given, shown)
    adopts = given.pop("adopt_schema", "false")
    if adopts not in ("true", "false"):
        raise BadStoreUrl(shown, f"adopt_schema is 'true' or 'false', not {adopts!r}")
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
    _check_names(given, shown)
    database = unquote(parts.path.removeprefix("/"))
    dsn = f"{parts.scheme}://{parts.netloc}{parts.path}"
    show = {name: value for name, value in given.items() if name in _SHOWN_PARAMETERS}
    name = f"postgresql://{user + '@' if user else ''}{hosts}{parts.path}"
    # A connection is made at any time, and a runner may have changed the folder by then.
    given |= {file: os.path.abspath(given[file]) for file in _ALL_FILES if given.get(file)}
    found = Address(
        dsn=f"{dsn}?{urlencode(given)}" if given else dsn,
        schema=schema,
        name=f"{name}?{urlencode({**show, 'schema': schema}, safe='/')}",
        user=given.get("user") or unquote(user) or "(the default)",
        database=given.get("database") or given.get("dbname") or database or "(the default)",
        patience=common.patience,
        tape_events=common.tape_events,
        open_mode=common.open_mode,
        application_name=application_name,
        connect_timeout=connect_timeout,
        adopts_schema=adopts == "true",
        files=tuple((name, given[name]) for name in _FILES if given.get(name)),
    )
    if not server:
        return found
    ours = urlsplit(f"//{hosts.partition(',')[0]}")
    at = {"host": ours.hostname or given.get("host", ""), "port": ours.port or given.get("port")}
    direct = urlencode({name: at for name, at in {**given, **at, **server}.items() if at})
    dsn = f"{parts.scheme}://{login + '@' if login else ''}{parts.path}?{direct}"
    return replace(found, pooled=True, listens_at=replace(found, dsn=dsn))


def _check_names(given: Mapping[str, str], shown: str) -> None:
    """Refuse what the driver would hand to the server as a setting that no server has."""
    for name in given:
        if why := _REFUSED.get(name):
            raise BadStoreUrl(shown, f"leave {name!r} out: {why}")
        if name not in _DRIVERS_OWN:
            known = ", ".join(sorted({*_OURS, *_DRIVERS_OWN}))
            raise BadStoreUrl(
                shown,
                f"{name!r} is not a parameter of a PostgreSQL URL; known are {known}. A setting of "
                "the server goes into options: options=-c%20statement_timeout%3D5000",
            )


def _pop_connect_timeout(given: dict[str, str], shown: str) -> float | None:
    """As libpq has it: whole seconds, and 0 or less is no limit."""
    text = given.pop("connect_timeout", "0")
    try:
        seconds = int(text)
    except ValueError:
        raise BadStoreUrl(
            shown, f"connect_timeout is a whole number of seconds, not {text!r}"
        ) from None
    return float(seconds) if seconds > 0 else None


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
