"""From a URL to its store: one of ours, or one of the entry-point group ``tapescope.stores``."""

from __future__ import annotations

import re
import unicodedata
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadStoreUrl, UnknownStoreScheme
from tapescope.model.showing import hide_password

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore
    from tapescope_telemetry import Telemetry

__all__ = ["find_store", "hide_password", "refuse_control_characters"]

_GROUP: Final = "tapescope.stores"
_OWN: Final = {
    "postgres": "tapescope_adapters.postgres:PostgresStore",
    "postgresql": "tapescope_adapters.postgres:PostgresStore",
    "sqlite": "tapescope_adapters.sqlite:SqliteStore",
}
"""Our entry points of that group: what reads those of an installed package takes longer to import
than the store itself."""
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def refuse_control_characters(text: str, shown: str) -> None:
    """Raises ``BadStoreUrl`` where a URL, or a path of one, has a newline or the like in it.

    ``shown`` is the URL as the error may show it.
    """
    for char in text:
        if unicodedata.category(char) in ("Cc", "Zl", "Zp"):
            raise BadStoreUrl(shown, f"it has the control character {char!r} in it")


def find_store(
    url: str, *, telemetry: Telemetry | None = None, patience: float | None = None
) -> TaskStore:
    """Make the store that a URL names; it is not opened.

    Its class is looked up by the URL's scheme and called as ``Store(url, telemetry=telemetry)``;
    ``patience``, the seconds that a call waits for a store that is away, is passed on where it is
    given. A URL with a ``?patience=`` of its own goes before it.
    Raises ``BadStoreUrl``, ``UnknownStoreScheme``, and ``MissingExtra`` where the store's driver is
    not installed.
    """
    refuse_control_characters(url, hide_password(url))
    match = _SCHEME.match(url)
    if match is None:
        raise BadStoreUrl(hide_password(url), "it has no scheme")
    settings = {} if patience is None else {"patience": patience}
    store: TaskStore = _find_class(match[1].lower())(url, telemetry=telemetry, **settings)
    return store


def _find_class(scheme: str) -> Any:
    """The class of the stores with this scheme; our own, before any other package is asked.

    Raises ``UnknownStoreScheme``.
    """
    if scheme in _OWN:
        module, _, name = _OWN[scheme].partition(":")
        return getattr(import_module(module), name)
    from importlib.metadata import entry_points

    installed = entry_points(group=_GROUP)  # reads the metadata of every package there is
    for entry in installed.select(name=scheme):
        return entry.load()
    raise UnknownStoreScheme(scheme, sorted({*_OWN, *installed.names}))
