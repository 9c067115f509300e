"""Why a drill may be refused."""

from __future__ import annotations

from collections.abc import Sequence

from tapescope.errors import TapescopeError

__all__ = ["CannotDrill", "ChildSilent", "StoreHasTasks", "UnknownDrill"]


class UnknownDrill(TapescopeError):
    """No drill has this name."""

    def __init__(self, name: str | None, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        asked = "Name a drill" if name is None else f"There is no drill {name!r}"
        super().__init__(f"{asked}. There are: {', '.join(known)}.")


class StoreHasTasks(TapescopeError):
    """A store that holds real tasks."""

    def __init__(self, store: str, op: str) -> None:
        self.store, self.op = store, op
        super().__init__(
            f"{store} holds tasks that no drill made, such as one of op {op!r}. Drill on another "
            "store, as with --store sqlite:///drill.db; to drill on this one all the same, add "
            "--on-real-store."
        )


class CannotDrill(TapescopeError):
    """A store that a drill cannot take away."""

    def __init__(self, store: str, why: str) -> None:
        self.store, self.why = store, why
        super().__init__(
            f"{store} cannot be taken away for a drill: {why}. Drill on another store, as with "
            "--store sqlite:///drill.db."
        )


class ChildSilent(TapescopeError):
    """A process that a drill started does not serve its metrics."""

    def __init__(self, said: str) -> None:
        self.said = said
        super().__init__(
            f"A process of the drill did not begin to serve metrics: {said or 'it said nothing'}. "
            "Run 'tapescope exporter' on this store by itself to see why."
        )
