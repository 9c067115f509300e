"""What the URL of a SQLite store says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tapescope.errors import BadStoreUrl
from tapescope_adapters._parameters import pop_patience

__all__ = ["read_url"]


def read_url(url: str) -> tuple[str, float | None]:
    """The file's path, and the patience in seconds where the URL says so."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc:
        raise BadStoreUrl(url, "a SQLite URL has three slashes, or four before an absolute path")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    patience = pop_patience(given, url)
    if given or parts.fragment:
        raise BadStoreUrl(url, "'patience' is the only parameter of a SQLite URL")
    path = unquote(parts.path.removeprefix("/"))
    if path in ("", ":memory:"):
        return ":memory:", patience
    return str(Path(path).expanduser()), patience
