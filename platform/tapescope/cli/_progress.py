"""The demo's tasks while they run: bars on a terminal, a line for each end elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tapescope.cli._output import make_printable, print_line
from tapescope.cli._rendering import STATUS_STYLES
from tapescope.cli._table import make_console
from tapescope.model.tape import PROGRESS, Event
from tapescope.model.tasks import TaskStatus

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["LineBoard", "TerminalBoard", "make_board"]

_TITLE: Final = 28
"""Characters of a task's title: with them the board fits a terminal of 80 columns."""


def make_board(*, terminal: bool) -> LineBoard | TerminalBoard:
    """The board that fits where stdout goes."""
    return TerminalBoard() if terminal else LineBoard()


class LineBoard:
    """A line for each task that ends."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass  # nothing is open

    def add(self, task_id: str, title: str) -> None:
        """A task was submitted."""
        self._titles[task_id] = title

    def note(self, task_id: str, event: Event) -> None:
        """An event is on the task's tape: events have no line of their own."""

    def finish(self, task_id: str, outcome: str, message: str) -> None:
        """The task has ended."""
        title = self._titles[task_id]
        print_line(f"{outcome:<9}  {title}{f'  ({make_printable(message)})' if message else ''}")


class TerminalBoard:
    """A bar for each task, drawn by rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[events]:>10}", markup=False),
            TimeElapsedColumn(),
            TextColumn("[{task.fields[style]}]{task.fields[state]}[/]"),
            console=make_console(),
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def add(self, task_id: str, title: str) -> None:
        """A task was submitted."""
        shown = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
        self._rows[task_id] = self._progress.add_task(
            shown, total=None, start=False, events="", state=TaskStatus.PENDING, style="dim"
        )

    def note(self, task_id: str, event: Event) -> None:
        """An event is on the task's tape."""
        row = self._rows[task_id]
        events = "1 event" if event.seq == 1 else f"{event.seq:,} events"
        fields: dict[str, Any] = {"events": events, "state": TaskStatus.RUNNING, "style": "cyan"}
        if event.seq == 1:
            self._progress.start_task(row)
        if event.type == PROGRESS:
            fields |= {"completed": event.body["current"], "total": event.body["total"]}
        self._progress.update(row, **fields)

    def finish(self, task_id: str, outcome: str, message: str) -> None:
        """The task has ended: its bar is full if it succeeded, else as far as it came."""
        row = self._rows[task_id]
        bar: dict[str, Any] = {}
        if outcome == TaskStatus.SUCCEEDED:
            bar = {"total": 1, "completed": 1}
        elif self._progress.tasks[row].total is None:  # it never said how much there is to do
            bar = {"total": 1, "completed": 0}
        self._progress.update(row, state=outcome, style=STATUS_STYLES[outcome], **bar)
        self._progress.stop_task(row)
