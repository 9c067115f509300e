"""What the URL of a SQLite store says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tapescope.errors import BadStoreUrl
from tapescope_adapters._parameters import pop_patience, pop_tape_events

__all__ = ["read_url"]


def read_url(url: str) -> tuple[str, float | None, int | None]:
    """The file's path; the patience in seconds and the tape's limit where the URL says so."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc:
        raise BadStoreUrl(url, "a SQLite URL has three slashes, or four before an absolute path")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    patience, tape_events = pop_patience(given, url), pop_tape_events(given, url)
    if given or parts.fragment:
        raise BadStoreUrl(url, "a SQLite URL has the parameters 'patience' and 'tape_events' only")
    path = unquote(parts.path.removeprefix("/"))
    if path in ("", ":memory:"):
        return ":memory:", patience, tape_events
    return str(Path(path).expanduser()), patience, tape_events
