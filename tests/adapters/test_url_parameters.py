"""Parameters of a store's URL: a typo is told at once; those of libpq are honoured or refused."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from tapescope.cli._store import file_url
from tapescope.errors import (
    BadSetting,
    BadStoreUrl,
    StoreConfigError,
    StoreUnavailable,
)
from tapescope.store.lookup import find_store
from tapescope.store.opening import OpenMode
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.postgres._url import parse_url
from tapescope_adapters.sqlite import SqliteStore
from tests.support.postgres_sessions import make_role, session
from tests.support.services import Postgres

LIBPQ = [
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname",
    "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr",
    "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
    "load_balance_hosts", "max_protocol_version", "min_protocol_version", "oauth_client_id",
    "oauth_client_secret", "oauth_issuer", "oauth_scope", "options", "passfile", "password",
    "port", "replication", "require_auth", "requirepeer", "scram_client_key",
    "scram_server_key", "service", "servicefile", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslkey",
    "sslkeylogfile", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni",
    "target_session_attrs", "tcp_user_timeout", "user",
]  # fmt: skip
"""The parameter key words of libpq 18: postgresql.org/docs/18/libpq-connect.html."""


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("postgresql://h/db?shcema=x", "schema"),
        ("postgresql://h/db?connect_timout=3", "connect_timeout"),
        ("postgresql://h/db?SSLMODE=require", "sslmode"),
        ("postgresql://h/db?statement_timeout=5000", "options=-c%20statement_timeout%3D5000"),
        ("postgresql://h/db?patience=3600&search_path=x", "patience"),
        ("sqlite:///tasks.db?shcema=x", "patience"),
    ],
)
def test_unknown_parameter_is_refused_with_the_known_names(url: str, known: str) -> None:
    """When the URL is read, so that nothing is waited for."""
    with pytest.raises(BadStoreUrl, match="is not a parameter of") as refused:
        find_store(url)

    assert known in refused.value.why


@pytest.mark.parametrize("name", LIBPQ)
def test_libpq_parameter_is_honoured_or_refused_by_name(name: str) -> None:
    """None is taken for a typo, and none is passed over in silence."""
    became = read_parameter(name, "7")

    assert became in ("the driver's", "ours") or became.startswith(f"leave {name!r} out: ")


def read_parameter(name: str, value: str) -> str:
    """What became of a parameter: it is left in the driver's URL, taken out, or refused."""
    try:
        address = parse_url(f"postgresql://h/db?{name}={value}")
    except BadStoreUrl as refused:
        return refused.why
    path = quote(os.path.abspath(value), safe="")  # of a parameter that names a file
    if any(f"{name}={kept}" in address.dsn for kept in (value, path)):
        return "the driver's"
    kept = (address.application_name, address.connect_timeout)
    return "ours" if value in kept or float(value) in kept else "lost"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(None, OpenMode.CREATE), ("read", OpenMode.READ), ("migrate", OpenMode.MIGRATE)],
)
@pytest.mark.parametrize("url", ["postgresql://h/db", "sqlite:///tasks.db"])
def test_open_mode_of_the_url_goes_before_the_setting(
    url: str, mode: str | None, expected: OpenMode
) -> None:
    """As the patience does; one that does not exist is named with those that do."""
    store = find_store(url if mode is None else f"{url}?open_mode={mode}")
    with pytest.raises(BadStoreUrl, match="open_mode is one of read, existing, create"):
        find_store(f"{url}?open_mode=rw")

    assert store.open_mode is expected


def test_unknown_open_mode_is_refused() -> None:
    """In a program as in a URL."""
    with pytest.raises(BadSetting, match="open_mode is 'rw'; it must be one of read, existing"):
        PostgresStore("postgresql://h/db", open_mode="rw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the point of the test


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("pg_x", "names that begin with 'pg_' are PostgreSQL's own"),
        ("Ops", "of a-z, 0-9 and '_'"),
        ("1st", "without a digit first"),
        ("a" * 64, "at most 63"),
    ],
)
def test_what_is_said_of_a_schema_is_true_of_it(schema: str, says: str) -> None:
    """The message has the rule that the name breaks, also where a pool was handed in."""
    with pytest.raises(BadStoreUrl) as of_url:
        PostgresStore(f"postgresql://h/db?schema={schema}")
    with pytest.raises(BadSetting) as of_pool:
        PostgresStore(pool=object(), schema=schema)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # its name is looked at first

    assert says in of_url.value.why
    assert says in of_pool.value.expected


@pytest.mark.parametrize("char", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize("url", ["sqlite:///a{}b.db", "postgresql://h/a{}b", "journal:///a{}b"])
def test_control_character_is_refused(url: str, char: str) -> None:
    """A newline in a path is no part of a name but of a mistake, or of an attack on a log."""
    with pytest.raises(BadStoreUrl, match="control character") as refused:
        find_store(url.format(char))

    assert str(refused.value).isprintable()


@pytest.mark.parametrize("code", ["%0A", "%00", "%1B", "%C2%85", "%E2%80%A8"])
def test_control_character_in_a_path_is_refused(code: str) -> None:
    """Also one that is escaped in the URL; what other people's names have is fine."""
    with pytest.raises(BadStoreUrl, match="control character"):
        find_store(f"sqlite:///a{code}b.db")

    assert find_store("sqlite:///Ünï cödé 　.db").name == "sqlite:///Ünï cödé 　.db"


@pytest.mark.parametrize("path", ["/a b/100%.db", "/what?.db", "/a#b.db", "/%41.db"])
def test_name_of_a_file_is_a_url_that_leads_to_it(path: str) -> None:
    """Errors show it to be typed."""
    escaped = path.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    store = find_store(f"sqlite:///{escaped}")

    assert store.name == f"sqlite:///{escaped}"


def test_file_name_of_other_bytes_has_a_url(tmp_path: Path) -> None:
    """A name that is not UTF-8, as a file system may have it, is shown as text that leads to it."""
    path = tmp_path / os.fsdecode(b"a\xff.db")
    typed, made = find_store(f"sqlite:///{path}"), find_store(file_url(path))

    assert typed.name == made.name == f"sqlite:///{tmp_path}/a%FF.db"
    assert find_store(typed.name).name.encode() == typed.name.encode()
    assert [SqliteStore(url).path for url in (typed.name, f"sqlite:///{path}")] == [str(path)] * 2


@pytest.mark.parametrize("option", ["-c no_such_setting=1", "-c statement_timeout=soon"])
async def test_setting_that_the_server_refuses_is_a_mistake(postgres_url: str, option: str) -> None:
    """It is not an outage: nothing is waited for, and ``options`` reach the server."""
    store = PostgresStore(f"{postgres_url}&options={option}", patience=3600.0)

    with pytest.raises(StoreConfigError, match=r"no_such_setting|statement_timeout"):
        await store.open()


async def test_options_and_names_reach_the_server(postgres_url: str) -> None:
    """``application_name`` is ours by default, and the URL's where it has one."""
    url = f"{postgres_url}&application_name=nightly&options=-c%20search_path%3Dnowhere"
    async with PostgresStore(url), session(postgres_url) as raw:
        named = await raw.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightly'"
        )

    assert named >= 1


async def test_password_comes_from_a_passfile(postgres_server: Postgres, tmp_path: Path) -> None:
    """As libpq has it; a wrong path is a wrong password."""
    role = await make_role(postgres_server, "right")
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:{role}:right\n", encoding="utf-8")
    passfile.chmod(0o600)
    url = postgres_server.url().replace("postgres@", f"{role}@")
    store = PostgresStore(f"{url}&passfile={passfile}")

    assert (await store.maintenance.schema_versions()).found == 0


async def test_file_that_is_not_there_is_told_at_once(postgres_url: str) -> None:
    """A certificate's path is a mistake in the URL, not an outage."""
    store = PostgresStore(f"{postgres_url}&sslrootcert=/nowhere/ca.pem", patience=3600.0)

    with pytest.raises(BadStoreUrl, match=r"the file of sslrootcert, '/nowhere/ca\.pem'"):
        await store.open()


@pytest.mark.parametrize(("parameter", "tries"), [("", 1), ("?connect_timeout=1", 2)])
async def test_connect_timeout_bounds_one_try(parameter: str, tries: int) -> None:
    """A server that never says a word: within the patience there is time for another try."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = PostgresStore(f"postgresql://u@127.0.0.1:{port}/db{parameter}", patience=1.5)
        with pytest.raises(StoreUnavailable):
            await store.open()
        silent.setblocking(False)
        called = 0
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                called += 1

    assert called == tries


@pytest.mark.parametrize("text", ["soon", "1.5", ""])
def test_connect_timeout_is_whole_seconds(text: str) -> None:
    """As libpq has it, where 0 or less is no limit."""
    with pytest.raises(BadStoreUrl, match="connect_timeout is a whole number"):
        parse_url(f"postgresql://h/db?connect_timeout={text}")

    assert parse_url("postgresql://h/db?connect_timeout=-1").connect_timeout is None


@pytest.mark.parametrize("url", ["sqlite:///tasks.db", "postgresql://app@db/shop"])
def test_url_says_how_much_a_tape_takes(url: str) -> None:
    """The limit of a tape is the URL's; without one it is the store's own."""
    assert find_store(f"{url}?tape_events=250000").limits.tape_events == 250_000
    assert find_store(url).limits.tape_events == 100_000
    with pytest.raises(BadStoreUrl, match="tape_events is a number of events over 0"):
        find_store(f"{url}?tape_events=many")
