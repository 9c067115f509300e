"""What is wrong with a command line, in plain words."""

from __future__ import annotations

import click

__all__ = ["describe_usage_error"]


def describe_usage_error(error: click.ClickException) -> str:
    """What is wrong with a command line, as a sentence."""
    text = error.format_message()
    if isinstance(error, click.BadParameter) and error.message:
        hint = error.param_hint
        if hint is None and error.param is not None:
            hint = error.param.get_error_hint(error.ctx)
        named = "" if hint is None else f"{str(hint).replace(chr(39), '')}: "
        text = named + error.message
    return text if text.endswith(("?", "!")) else f"{text.rstrip('.')}."
