"""A page of what a caller may see, of a list that has what others see as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

__all__ = ["find_visible"]

T = TypeVar("T")

_LOOKED: Final = 10_000
"""Rows that are looked at for one page, where nothing is said."""
_CHUNK: Final = 500


async def find_visible(
    read: Callable[[str | None, int], Awaitable[tuple[Sequence[T], str | None]]],
    sees: Callable[[T], bool],
    name: Callable[[T], str],
    after: str | None,
    limit: int,
    looked: int | None = None,
) -> tuple[tuple[T, ...], str | None]:
    """At most ``limit`` of what the caller ``sees``, behind ``after``; and where the next goes on.

    ``read`` gives so many rows behind a name, and the name behind which there are more. Past
    ``looked`` rows the page ends, perhaps empty, and has a next one. Raises what ``read`` raises.
    """
    seen: list[T] = []
    left = looked or _LOOKED
    while True:
        rows, following = await read(after, _CHUNK)
        for one in rows:
            if sees(one):
                seen.append(one)
                if len(seen) > limit:
                    return tuple(seen[:limit]), name(seen[limit - 1])
        left -= _CHUNK  # as many were asked for; ``read`` may have left some out
        after = following
        if after is None or left <= 0:
            return tuple(seen), after
