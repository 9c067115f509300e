"""What the URL of a SQLite store says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tapescope.errors import BadStoreUrl
from tapescope.store import refuse_control_characters
from tapescope_adapters._parameters import COMMON_PARAMETERS, CommonParameters, pop_common

__all__ = ["read_url", "write_url"]

_MODE: Final = re.compile("0?6[0246]{2}")
"""The permissions of a file in octal digits: its owner may read and write."""


def read_url(url: str) -> tuple[str, int, CommonParameters]:
    """The file's path, its mode where it is made, and what else the URL says.

    Raises ``BadStoreUrl``.
    """
    refuse_control_characters(url, url)  # before urlsplit, which leaves some of them out
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc:
        raise BadStoreUrl(url, "a SQLite URL has three slashes, or four before an absolute path")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    common = pop_common(given, url)
    mode = _pop_mode(given, url)
    if given:
        known = ", ".join((*COMMON_PARAMETERS, "mode"))
        raise BadStoreUrl(url, f"{min(given)!r} is not a parameter of a SQLite URL; {known} are")
    if parts.fragment:
        raise BadStoreUrl(url, "write a '#' in the path as %23")
    path = unquote(parts.path.removeprefix("/"), errors="surrogateescape")  # as os.fsdecode
    refuse_control_characters(path, url)
    if not path:
        raise BadStoreUrl(
            url, "it names no file; a store that lives in memory alone is sqlite:///:memory:"
        )
    if path == ":memory:":
        return path, mode, common
    return str(Path(path).expanduser()), mode, common


def _pop_mode(given: dict[str, str], url: str) -> int:
    text = given.pop("mode", "600")
    if not _MODE.fullmatch(text):
        raise BadStoreUrl(
            url,
            f"mode is the permissions of a file, as 600, 640 or 660, not {text!r}",
        )
    return int(text, 8)


def write_url(path: str) -> str:
    """The URL of the file, to be shown and to be typed; only what would be misread is escaped."""
    misread = "[%?#\udc80-\udcff]"  # the last ones stand for bytes that are not UTF-8
    return "sqlite:///" + re.sub(misread, lambda found: quote(os.fsencode(found[0])), path)
