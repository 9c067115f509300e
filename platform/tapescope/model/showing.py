"""How text of others is shown: without what steers a terminal, and without passwords."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["hide_password", "make_printable"]

_SECRETS: Final = (
    (re.compile(r"(://[^/?#]*?):[^/?#]*@"), r"\1@"),
    # A password with a '/', a '?' or a '#' in it that should have been escaped: up to the last '@'.
    (re.compile(r"(://[^/?#:@]*):(?!\d+(?:[/?#]|$))[^@]*(?:@.*)?@"), r"\1@"),
    (re.compile(r"^([^:/?#]*):[^/?#]*@"), r"\1@"),
    (re.compile(r"([?&](?:password|passfile|sslpassword)=)[^&#]*", re.IGNORECASE), r"\1***"),
)


def hide_password(url: str) -> str:
    """The URL as an error or a log may show it, whatever its scheme."""
    for secret, shown in _SECRETS:
        url = secret.sub(shown, url)
    return url


def make_printable(text: str) -> str:
    """Text that cannot move a terminal's cursor, change its colours or end the line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
