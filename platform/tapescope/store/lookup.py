"""From a URL to its store: one of ours, or one of the entry-point group ``tapescope.stores``."""

from __future__ import annotations

import re
import unicodedata
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadStoreUrl, SchemeTaken, UnknownStoreScheme
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
    url: str,
    *,
    telemetry: Telemetry | None = None,
    patience: float | None = None,
    thorough: bool = False,
) -> TaskStore:
    """Make the store that a URL names; it is not opened.

    Its class is looked up by the URL's scheme and called as ``Store(url, telemetry=telemetry)``;
    ``patience``, the seconds that a call waits for a store that is away, is passed on where it is
    given. A URL with a ``?patience=`` of its own goes before it. ``thorough`` asks all installed
    packages whether another one has a scheme of ours, too: a manager does, and no short command,
    for it takes longer than to import the store.
    Raises ``BadStoreUrl``, ``UnknownStoreScheme``, ``SchemeTaken`` for a scheme of two packages,
    and ``MissingExtra`` where the store's driver is not installed.
    """
    refuse_control_characters(url, hide_password(url))
    match = _SCHEME.match(url)
    if match is None:
        raise BadStoreUrl(hide_password(url), "it has no scheme")
    settings = {} if patience is None else {"patience": patience}
    store: TaskStore = _find_class(match[1].lower(), thorough=thorough)(
        url, telemetry=telemetry, **settings
    )
    return store


def _find_class(scheme: str, *, thorough: bool) -> Any:
    """The class of the stores with this scheme. Raises ``UnknownStoreScheme``, ``SchemeTaken``."""
    own = _OWN.get(scheme)
    if own is not None and not thorough:
        module, _, name = own.partition(":")
        return getattr(import_module(module), name)
    from importlib.metadata import EntryPoint, entry_points

    installed = entry_points(group=_GROUP)  # reads the metadata of every package there is
    found = {one.dist.name if one.dist else one.value: one for one in installed.select(name=scheme)}
    if own is not None:  # of the source tree alone there is no metadata
        found.setdefault("tapescope", EntryPoint(scheme, own, _GROUP))
    if len(found) > 1:
        raise SchemeTaken(scheme, sorted(found))
    for entry in found.values():
        return entry.load()
    raise UnknownStoreScheme(scheme, sorted({*_OWN, *installed.names}))
