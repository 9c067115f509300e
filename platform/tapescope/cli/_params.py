"""The params of tasks, as a user types them."""

from __future__ import annotations

from typing import Any, cast

from tapescope.codec import decode
from tapescope.errors import BadParams

__all__ = ["parse_params"]


def parse_params(text: str) -> dict[str, Any]:
    """The params of a task from their JSON text. Raises ``BadParams``."""
    try:
        params: object = decode(text)
    except ValueError as error:
        raise BadParams(f"--params is not valid JSON ({error})") from error
    if not isinstance(params, dict):
        raise BadParams('--params must be an object, as in \'{"folder": "photos"}\'')
    return cast("dict[str, Any]", params)
