"""Where a server is, and whether a token may be sent there (docs/decisions/0075)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

import httpx

from tapescope.errors import BadSetting
from tapescope.model.addresses import is_loopback
from tapescope.model.showing import hide_password

__all__ = ["TOKEN_VARIABLE", "Address"]

TOKEN_VARIABLE: Final = "TAPESCOPE_TOKEN"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
"""As RFC 6750 has it. Anything else would end the header, or be shown by an error of it."""
_URL: Final = "the URL of a server, as http://127.0.0.1:8470 or https://tasks.example/path"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's URL, and the token for it, which no ``repr`` shows."""

    url: str
    """Without a slash at its end."""
    is_local: bool
    """Whether it is this machine: what is sent there goes by no network, and through no proxy."""
    token: str | None = field(default=None, repr=False)

    @classmethod
    def check(cls, url: object, token: str | None, *, plain_http: bool) -> Self:
        """From what a caller gives; without a token that of ``TAPESCOPE_TOKEN`` is taken.

        Raises ``BadSetting`` for what is not a URL, or has a password, and for a token that would
        go over a network for everybody to read, unless ``plain_http`` says that this is wanted.
        """
        base, host, secure = _read(url)
        token = token if token is not None else os.environ.get(TOKEN_VARIABLE)
        if token is not None:
            token = token.strip()
            if token and _TOKEN.fullmatch(token) is None:
                raise BadSetting(
                    "token", "***", "as 'tapescope token add' prints it: letters, digits, -._~+/="
                )
        local = is_loopback(host)
        if token and not (secure or local or plain_http):
            raise BadSetting(
                "server",
                base,
                "an https URL, since there is a token, which http shows to the network; "
                "plain_http=True, or TAPESCOPE_PLAIN_HTTP=1 for a command, sends it all the same",
            )
        return cls(base, local and not secure, token or None)


def _read(url: object) -> tuple[str, str, bool]:
    """The URL without its last slash, its host, and whether it is https. Raises ``BadSetting``."""
    text = url.strip() if isinstance(url, str) else ""
    shown = hide_password(text) if isinstance(url, str) else url
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise BadSetting("server", shown, _URL) from None
    if "@" in parts.netloc:
        expected = f"{_URL}: without a name or a password; a token goes with TAPESCOPE_TOKEN"
        raise BadSetting("server", shown, expected)
    plain = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise BadSetting("server", shown, _URL)
    try:
        httpx.URL(text)
    except httpx.InvalidURL:
        raise BadSetting("server", shown, _URL) from None
    if parts.query or parts.fragment:
        raise BadSetting("server", shown, f"{_URL}, without a query")
    return text.rstrip("/"), host, parts.scheme == "https"
