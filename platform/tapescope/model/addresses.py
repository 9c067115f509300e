"""Addresses: which are this machine's own, where a token or an open port may be; and links."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_link", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, and no other can reach it."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_link(text: str) -> bool:
    """Whether this is a URL of http or https, and needs no quoting in whatever file it is put.

    One that begins with another scheme could run a script.
    """
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "<>\\')
    try:
        parts = urlsplit(text)
        return plain and parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
