"""Secrets in the environment, which no line of ours, or of a library that we pass on, may hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ["hide_secrets"]

_HIDDEN: Final = "***"
_SHORTEST: Final = 3
"""Characters of what is hidden: a shorter text would stand in many an innocent word."""
_USERINFO: Final = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+(?=@)")
_PASSWORDS: Final = ("PGPASSWORD", "TAPESCOPE_TOKEN")
_URLS: Final = ("TAPESCOPE_STORE", "TAPESCOPE_SERVER", "DATABASE_URL")


def hide_secrets(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with ``***`` for each header value, password and query of the environment in it.

    Those of the ``OTEL_EXPORTER_OTLP_*`` variables, as they stand there and decoded, and as Python
    shows them; and the password of any URL in the text.
    """
    secrets = {form for secret in _find(environ) for form in _forms(secret)}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return _USERINFO.sub(rf"\1:{_HIDDEN}", text)


def _find(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS"):
            for part in (*value.split(","), f"={value}"):
                yield part.partition("=")[2].strip()
        elif name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("ENDPOINT"):
            yield from _find_in_url(value if "://" in value else f"//{value}", all_of_it=True)
        elif name in _PASSWORDS:
            yield value
        elif name in _URLS:
            yield from _find_in_url(value, all_of_it=False)


def _find_in_url(url: str, *, all_of_it: bool) -> Iterator[str]:
    """Its password; with ``all_of_it`` the user's name and what its query says, too."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a URL that nobody can read: hidden as a whole
        yield url
        return
    yield parts.password or ""
    if all_of_it:
        yield _userinfo(parts)
        yield parts.query
        for _, value in parse_qsl(parts.query):
            yield value


def _userinfo(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[0]


def _forms(secret: str) -> Iterator[str]:
    """How a library may show it: encoded or not, in quotes, on one line, or a word of it."""
    for form in {secret, unquote(secret)}:
        for shown in {form, repr(form)[1:-1], " ".join(form.split()), *form.split()}:
            if len(shown) >= _SHORTEST:
                yield shown
