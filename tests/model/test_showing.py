"""What is shown of others' text: no password, whatever the scheme, and nothing that steers."""

from __future__ import annotations

import logging

import pytest

from tapescope.errors import TapescopeError
from tapescope.model.showing import hide_password
from tapescope.store.lookup import find_store
from tapescope_telemetry.logger import Logger

PASSWORD = "pA55w0rd"


@pytest.mark.parametrize("scheme", ["sqlite", "SQLite", "postgresql", "postgres", "mysql", "x+y"])
@pytest.mark.parametrize(
    "rest",
    [
        f"u:{PASSWORD}@h/db?nothing=1",
        f":{PASSWORD}@h/db?nothing=1",
        f"u:{PASSWORD}@h:port/db",
        f"u:{PASSWORD}/x@h/db?nothing=1",
        f"u:x?{PASSWORD}@h/db",
        f"u:x#{PASSWORD}@h/db",
        f"u:x@{PASSWORD}@h/db?nothing=1",
        f"h/db?password={PASSWORD}&nothing=1",
        f"/tasks.db?PASSWORD={PASSWORD}",
        f"u:{PASSWORD}@h/db\n",
    ],
)
def test_no_error_shows_a_password(scheme: str, rest: str) -> None:
    """Neither its text nor what it carries."""
    with pytest.raises(TapescopeError) as refused:
        find_store(f"{scheme}://{rest}")

    assert PASSWORD not in f"{refused.value} {vars(refused.value)} {refused.value.args}"


@pytest.mark.parametrize(
    "url",
    ["sqlite:////a:b/c@d.db", "sqlite:///tasks.db", "postgresql://h:5432/db?application_name=a@b"],
)
def test_a_url_without_one_is_shown_as_it_is(url: str) -> None:
    """A colon or an '@' elsewhere hides nothing."""
    assert hide_password(url) == url


def test_texts_of_others_make_no_line_and_steer_no_terminal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The name of a class, a message, a worker's name: whatever a log line is given is one line."""
    evil = type("Evil\x1b[31m\nERROR forged", (Exception,), {})
    Logger("tapescope").warning("%s, %s", evil.__name__, evil("\x9b2J\u202e"))
    (record,) = caplog.records

    assert record.levelno == logging.WARNING
    assert record.getMessage().isprintable()
