"""Whose page a browser makes a request for, by the headers that only browsers send."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.datastructures import Headers

__all__ = ["is_cross_origin", "is_navigation", "is_same_origin"]


def is_cross_origin(headers: Headers) -> bool:
    """Whether a browser made it for the page of another site; only browsers send these headers."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:  # brackets that do not close
        return True


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that a page of ours makes it; ``False`` where nobody says anything."""
    return ("sec-fetch-site" in headers or "origin" in headers) and not is_cross_origin(headers)


def is_navigation(headers: Headers) -> bool:
    """Whether a person followed a link to it in a tab: no page can read the answer."""
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
