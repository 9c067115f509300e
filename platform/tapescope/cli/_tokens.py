"""The file of the server's tokens: which one it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from tapescope.http.tokens import TokenFile

__all__ = ["TOKENS", "open_tokens", "tokens_option"]

TOKENS: Final = "--tokens"

tokens_option = click.option(
    TOKENS,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file of the server's tokens. Default: tokens.json in your configuration folder.",
)


def open_tokens(option: Path | None) -> TokenFile:
    """The file of the option, else the default one. Nothing is read or made."""
    from tapescope.http.tokens import TokenFile

    if option is not None:
        return TokenFile(option.absolute())  # it is read again for as long as the server runs
    import platformdirs

    folder = Path(platformdirs.user_config_dir("tapescope", appauthor=False))
    return TokenFile(folder / "tokens.json")
