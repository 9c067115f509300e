"""No secret of the environment is in a line that the program writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapescope.cli._secrets import hide_secrets
from tests.cli.command import Tapescope, slow

TOKEN = "tok3n-SECRET"


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", f"k={TOKEN}", f"value: {TOKEN}"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"a=b,k={TOKEN}", f"value: {TOKEN!r}"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"k=Bearer%20abc%0A{TOKEN}", f"'Bearer abc {TOKEN}'"),
        ("OTEL_EXPORTER_OTLP_HEADERS", f"k=Bearer%20abc%0A{TOKEN}", f"'Bearer abc\\n{TOKEN}'"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "k=tok3n%2DSECRET", f"value {TOKEN}"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://bob:{TOKEN}@h:9", f"traces to bob:{TOKEN}@h:9"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"bob:{TOKEN}@h:9", f"traces to bob:{TOKEN}@h:9"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:tok3n%2DSECRET@h", f"user b, password {TOKEN}"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"http://h/v1?key={TOKEN}", f"GET /v1?key={TOKEN}"),
        ("TAPESCOPE_STORE", f"postgresql://me:{TOKEN}@h/db", f"password {TOKEN} is wrong"),
        ("PGPASSWORD", TOKEN, f"password {TOKEN} is wrong"),
        ("HOME", "/home/me", f"cannot reach https://me:{TOKEN}@h/path"),
    ],
)
def test_no_form_of_a_secret_is_shown(variable: str, value: str, text: str) -> None:
    """As it stands in the variable, decoded, in quotes, on one line, and in a URL of any other."""
    assert TOKEN not in hide_secrets(text, {variable: value})


def test_other_words_stay() -> None:
    """What is no secret is told: the user, the host, the path."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "a=x", "TAPESCOPE_STORE": "postgresql://me:pw12@h/db"}
    text = "The store postgresql://me@h/db is away: x marks it"

    assert hide_secrets(text, environ) == text


@pytest.mark.parametrize("store", ["", "sqlite:////proc/none.db"])
def test_hidden_arguments_and_output_are_kept_nowhere(
    tapescope: Tapescope, tmp_path: Path, store: str
) -> None:
    """Neither the store nor a spool file has them; the task has the program's name."""
    tapescope.env |= {"XDG_STATE_HOME": str(tmp_path / "state"), "OTEL_TRACES_EXPORTER": "console"}
    options = ["--store", store] if store else []
    options += ["--hide-arguments", "--lines", "0"]
    done = tapescope("run", *options, "--", "sh", "-c", "echo t0k3n; echo t0k3n >&2; exit 3")
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]

    assert done.returncode == 3
    assert (done.stdout.count(b"t0k3n"), done.stderr.count(b"t0k3n")) == (1, 1)
    assert kept
    assert [file for file in kept if b"t0k3n" in file.read_bytes()] == []
    if not store:
        (task,) = tapescope.json("list")["tasks"]
        assert task["params"] == {"command": ["sh", "… 2 more"]}


@pytest.mark.parametrize("value", ["hidden", slow("off")])
def test_hidden_exception_texts_are_not_in_the_log(tapescope: Tapescope, value: str) -> None:
    """Also where nothing is sent; a value that means nothing hides them, and is told."""
    tapescope.env["TAPESCOPE_EXCEPTION_TEXTS"] = value
    done = tapescope("--log-format", "json", "run", "--", "sh", "-c", "exit 3")
    told = done.stderr.decode()

    assert done.returncode == 3
    assert "failed: tapescope.errors.CommandFailed (attempt 1)" in told
    assert "ended with" not in told
    assert ("'told' or 'hidden'" in told) is (value == "off")
    assert "3" in tapescope.tape()[-1]["body"]["error"]["message"]
