"""No secret of the environment is in a line that the program writes."""

from __future__ import annotations

import pytest

from tapescope.cli._secrets import hide_secrets

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
