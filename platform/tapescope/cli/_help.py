"""The help and the usage errors of the commands, in plain words: none of typer's or pydantic's."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

__all__ = ["Command", "describe_usage_error"]

_WRONG_TYPE: Final = {"float": "a number", "int": "a whole number"}
"""What a value is not, by the beginning of pydantic's name of the mistake."""


class Command(TyperCommand):
    """A command whose arguments stand in its help by their names alone."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] TASK_ID [NAME] COMMAND...``"""
        arguments = (param for param in self.get_params(ctx) if param.param_type_name == "argument")
        return [self.options_metavar or "", *map(_show_in_usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, each with its help, and the options as typer has them."""
        params = self.get_params(ctx)
        arguments = [
            (str(param.metavar), str(param.help))  # type: ignore[attr-defined]  # an argument has them
            for param in params
            if param.param_type_name == "argument"
        ]
        records = (
            param.get_help_record(ctx) for param in params if param.param_type_name == "option"
        )
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])


def describe_usage_error(error: TyperException) -> str:
    """What is wrong with a command line, as a sentence."""
    if isinstance(error, typer.BadParameter) and error.message:
        hint = error.param_hint or (error.param.get_error_hint() if error.param else None)
        message = _reword(error)
        text = message if hint is None else f"{str(hint).replace(chr(39), '')}: {message}"
    else:
        text = error.format_message()
    return text if text.endswith(("?", "!")) else f"{text.rstrip('.')}."


def _reword(error: typer.BadParameter) -> str:
    """The message, where it is pydantic's in words of ours."""
    read: Any = getattr(error.__cause__, "errors", None)
    if read is None:
        return error.message
    mistake = read()[0]
    for kind, expected in _WRONG_TYPE.items():
        if mistake["type"].startswith(kind):
            return f"{mistake['input']!r} is not {expected}"
    return error.message.removeprefix("Value error, ")


def _show_in_usage(param: Any) -> str:
    name = param.metavar if param.required else f"[{param.metavar}]"
    return name if param.nargs == 1 else f"{name}..."
