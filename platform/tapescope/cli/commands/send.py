"""``tapescope send``."""

from __future__ import annotations

import click

from tapescope.cli._options import json_option, source_options, task_argument
from tapescope.cli._output import print_json, print_line
from tapescope.cli._source import Place, choose_place
from tapescope.cli._task_ids import find_task_id
from tapescope.codec import decode
from tapescope.model.json_shapes import sent_shape
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["send"]


@click.command("send")
@task_argument
@click.argument("message", metavar="JSON", help="What its runner is given: any JSON value.")
@click.option(
    "--key",
    metavar="KEY",
    help="Names the message: the same again, under this key, adds nothing. Default: a new one.",
)
@json_option
@source_options
def send(
    *,
    task_id: str,
    message: str,
    key: str | None,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> None:
    """Send a message to a task, in whichever process it runs.

    The command returns as soon as the message is stored: the runner takes it when it asks for it.
    A pending task has its messages when it begins; one that has ended takes none.
    """
    try:
        body: object = decode(message)
    except ValueError as error:
        hint = """a text is '"yes"', an object '{"approved": true}'"""
        raise click.BadParameter(f"it is not JSON ({error}): {hint}", param_hint="JSON") from error
    run_main(_send(choose_place(store, server), task_id, body, key, as_json=as_json))


async def _send(place: Place, named: str, body: object, key: str | None, *, as_json: bool) -> None:
    async with place.open(OpenMode.EXISTING) as source:
        task_id = await find_task_id(source, named)
        sent = await source.send(task_id, body, key)
        if as_json:
            print_json(sent_shape(task_id, sent) | {"store": source.name})
        else:
            became = "is stored" if sent.new else "was there already"
            print_line(f"{task_id} message {sent.n} {became}.")
