"""``tapescope submit``."""

from __future__ import annotations

from datetime import datetime

import click

from tapescope.cli._completion import complete_op
from tapescope.cli._options import json_option, source_options, wait_option
from tapescope.cli._params import parse_params
from tapescope.cli._source import Place, choose_place
from tapescope.cli._submitted import print_submitted
from tapescope.cli._types import NUMBER, WHOLE_NUMBER
from tapescope.manager.submission import Submission
from tapescope.program import run_main

__all__ = ["submit"]


@click.command("submit")
@click.argument("op", shell_complete=complete_op, help="The name of an op that workers register.")
@click.option(
    "--params", default="{}", metavar="JSON", help="The params of the task: a JSON object."
)
@click.option(
    "--retries",
    type=WHOLE_NUMBER,
    metavar="N",
    help="How many attempts may follow the first. Default: as the op has it.",
)
@click.option(
    "--timeout",
    type=NUMBER,
    metavar="SECONDS",
    help="How long one attempt may take. Default: as the op has it.",
)
@click.option(
    "--priority",
    type=WHOLE_NUMBER,
    metavar="N",
    help="From -9 to 9: the higher goes first. Default: as the op has it.",
)
@click.option(
    "--queue",
    metavar="NAME",
    help="Which workers take it: those of this queue, and those of all. Default: as the op has it.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="A word by which the task is found; give it again for more, up to ten.",
)
@click.option(
    "--delay",
    type=NUMBER,
    metavar="SECONDS",
    help="Start the task no sooner than this long from now.",
)
@click.option(
    "--run-at",
    metavar="TIME",
    help="Start the task no sooner than this time: 2026-01-31T12:00:00Z.",
)
@click.option(
    "--expires-in",
    type=NUMBER,
    metavar="SECONDS",
    help="Begin no first attempt later than this long after the task is due: it ends as cancelled, "
    "expired. Default: as the op has it.",
)
@click.option(
    "--key",
    metavar="KEY",
    help="An idempotency key: to submit the same op and key again gives the same task.",
)
@click.option(
    "--unique-key",
    metavar="KEY",
    help="Make no task while one of the op with this key is open: that one is given.",
)
@click.option(
    "--concurrency-key",
    metavar="KEY",
    help="Of the op no more tasks with this key run at once than the op has slots.",
)
@wait_option
@json_option
@source_options
def submit(
    *,
    op: str,
    params: str,
    retries: int | None,
    timeout: float | None,
    priority: int | None,
    queue: str | None,
    tags: tuple[str, ...],
    delay: float | None,
    run_at: str | None,
    expires_in: float | None,
    key: str | None,
    unique_key: str | None,
    concurrency_key: str | None,
    wait: bool,
    as_json: bool,
    store: str | None,
    server: str | None,
) -> int:
    """Submit a task to the workers of the store, and print its id."""
    at = None if run_at is None else _parse_time(run_at)
    plain = parse_params(params)
    submission = Submission(
        op,
        None,
        plain,
        timeout,
        key,
        retries,
        delay,
        at,
        priority=priority,
        tags=tags,
        unique_key=unique_key,
        concurrency_key=concurrency_key,
        queue=queue,
        expires_in=expires_in,
    )
    return run_main(_submit(choose_place(store, server), submission, wait=wait, as_json=as_json))


async def _submit(place: Place, submission: Submission, *, wait: bool, as_json: bool) -> int:
    async with (
        place.make() as source,
        source.submitting() as submitter,
    ):
        handle = await submitter.submit(submission)
        return await print_submitted(handle, source.name, wait=wait, as_json=as_json)


def _parse_time(text: str) -> datetime:
    """An aware time from its RFC 3339 text. Raises a usage error."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} is not a time with a time zone: write 2026-01-31T12:00:00Z",
            param_hint="--run-at",
        )
    return at
