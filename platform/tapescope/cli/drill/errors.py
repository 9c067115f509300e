"""What a drill may be refused for."""

from __future__ import annotations

from collections.abc import Sequence

from tapescope.errors import TapescopeError

__all__ = ["CannotDrill", "StoreHasTasks", "UnknownDrill"]


class UnknownDrill(TapescopeError):
    """A drill that there is not."""

    def __init__(self, name: str | None, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        asked = "Name a drill" if name is None else f"There is no drill {name!r}"
        super().__init__(f"{asked}. There are: {', '.join(known)}.")


class StoreHasTasks(TapescopeError):
    """A store on which somebody works."""

    def __init__(self, store: str, op: str) -> None:
        self.store, self.op = store, op
        super().__init__(
            f"{store} holds tasks that are no drill's, such as one of op {op!r}. Drill on a store "
            "of its own, as with --store sqlite:///drill.db; if it shall be this one, say "
            "--on-real-store."
        )


class CannotDrill(TapescopeError):
    """A store on which this fault cannot be made."""

    def __init__(self, store: str, why: str) -> None:
        self.store, self.why = store, why
        super().__init__(
            f"{store} cannot be taken away for a drill: {why}. Drill on another store, as with "
            "--store sqlite:///drill.db."
        )
