"""From a URL to its engine: one of ours, or one of the entry-point group ``tapescope.engines``."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadEngineUrl, UnknownEngine
from tapescope.model.showing import hide_password

if TYPE_CHECKING:
    from tapescope.engine.port import Engine

__all__ = ["find_engine"]

_GROUP: Final = "tapescope.engines"
_OWN: Final = {"temporal": "tapescope_adapters.temporal:TemporalEngine"}
_SCHEME: Final = re.compile(r"([a-z][a-z0-9_-]*)://")


def find_engine(url: str) -> Engine:
    """Make the engine that a URL names; nothing is connected.

    Its class is looked up by the URL's scheme and called with the URL. Raises ``BadEngineUrl``,
    ``UnknownEngine``, and ``MissingExtra`` where what it needs is not installed.
    """
    match = _SCHEME.match(url)
    if match is None:
        raise BadEngineUrl(hide_password(url), "it has no scheme")
    make: Any = _find(match[1])
    engine: Engine = make(url)
    return engine


def _find(scheme: str) -> Any:
    if (own := _OWN.get(scheme)) is not None:
        module, _, name = own.partition(":")
        return getattr(import_module(module), name)
    from importlib.metadata import entry_points

    installed = entry_points(group=_GROUP)  # reads the metadata of every package there is
    for entry in installed.select(name=scheme):
        return entry.load()
    raise UnknownEngine(scheme, sorted({*_OWN, *installed.names}))
