"""Shell commands as a manager's runners, on every store."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from opentelemetry.sdk.trace import TracerProvider

from tapescope import (
    BadSetting,
    CommandFailed,
    Event,
    Outcome,
    ShellCommand,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskManager,
    Telemetry,
    find_store,
)
from tapescope.shell.recorder import LineRecorder
from tapescope.store.validation import StoreLimits
from tapescope.testing import MemoryStore, until
from tapescope_adapters.sqlite import SqliteStore
from tapescope_telemetry.spans import continue_trace


@pytest.fixture
async def manager(store_url: str) -> AsyncGenerator[TaskManager]:
    """A manager on a fresh store of each kind."""
    async with TaskManager(store_url, drain=0.0, cancel_grace=8.0) as manager:
        yield manager


async def tape_of(task: TaskHandle) -> list[Event]:
    """The task's events, once it has ended."""
    return [event async for event in task.follow()]


def lines_of(events: list[Event], stream: str) -> list[str]:
    """The lines of one stream."""
    return [
        event.body["line"]
        for event in events
        if event.type == "log" and event.body["stream"] == stream
    ]


async def first_line(task: TaskHandle) -> str:
    """The first line that the command says: from then on it runs."""
    async for event in task.follow():
        if event.type == "log":
            line: str = event.body["line"]
            return line
    raise AssertionError("it ended without a word")


async def test_command_leaves_its_lines_and_its_status(manager: TaskManager) -> None:
    """Each line is a log event, and exit status 0 a success that says so."""
    task = await manager.submit("shell", ShellCommand("echo a; echo b; echo c >&2"))
    events = await tape_of(task)

    assert await task.result() == {"exit_status": 0}
    assert [event.type for event in events] == [
        "task_started",
        "command_started",
        "log",
        "log",
        "log",
        "final",
    ]
    assert lines_of(events, "stdout") == ["a", "b"]
    assert lines_of(events, "stderr") == ["c"]


@pytest.mark.parametrize(("line", "status"), [("exit 3", 3), ("kill -9 $$", -signal.SIGKILL)])
async def test_failed_command_has_its_status_in_the_final(
    manager: TaskManager, line: str, status: int
) -> None:
    """A status other than 0, or a signal, is a failure whose details carry it."""
    task = await manager.submit("shell", ShellCommand(line))
    with pytest.raises(TaskFailed) as failed:
        await task.result()

    assert failed.value.error.code.endswith("CommandFailed")
    assert failed.value.error.details == {"exit_status": status}
    assert failed.value.error.traceback is None


async def test_arguments_need_no_quoting(manager: TaskManager) -> None:
    """A sequence is a program and its arguments: no shell reads them."""
    task = await manager.submit("shell", ShellCommand(["printf", "%s|", "$HOME", "a b"]))

    assert lines_of(await tape_of(task), "stdout") == ["$HOME|a b|"]


async def test_missing_program_fails_its_task(manager: TaskManager) -> None:
    """A program that cannot be started is a failure under the exception's name."""
    task = await manager.submit("shell", ShellCommand(["no-such-program-here"]))
    with pytest.raises(TaskFailed) as failed:
        await task.result()

    assert failed.value.error.code == "FileNotFoundError"


async def test_folder_that_may_not_be_searched_is_no_program(
    manager: TaskManager, tmp_path: Path
) -> None:
    """A missing program is missing, though a folder of PATH cannot be looked into."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    task = await manager.submit(
        "shell", ShellCommand(["no-such-program-here"], env={"PATH": f"{closed}:/usr/bin"})
    )
    with pytest.raises(TaskFailed) as failed:
        await task.result()

    assert failed.value.error.code == "FileNotFoundError"


async def test_cancel_sends_sigterm_to_the_whole_group(manager: TaskManager) -> None:
    """A cancel ends the command and what it started, and both may clean up."""
    script = "trap 'echo goodbye; exit' TERM; sleep 600 & echo $!; wait"
    task = await manager.submit("shell", ShellCommand(script))
    grandchild = int(await first_line(task))

    await task.cancel("enough")
    with pytest.raises(TaskCancelled):
        await task.result()

    assert lines_of(await tape_of(task), "stdout")[1:] == ["goodbye"]
    await until(lambda: not psutil.pid_exists(grandchild) or is_zombie(grandchild))


async def test_command_that_ignores_sigterm_is_killed_after_its_grace(
    manager: TaskManager,
) -> None:
    """SIGKILL follows the grace, and takes the group's other processes along."""
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done'; echo no"
    task = await manager.submit("shell", ShellCommand(script, grace=0.2))
    grandchild = int(await first_line(task))

    await task.cancel()
    with pytest.raises(TaskCancelled):
        await task.result()

    assert "no" not in lines_of(await tape_of(task), "stdout")
    await until(lambda: not psutil.pid_exists(grandchild) or is_zombie(grandchild))


async def test_a_stopped_command_ends_within_its_grace() -> None:
    """It is told to go on: a process that is stopped hears no SIGTERM."""
    async with MemoryStore() as store, TaskManager(store, cancel_grace=20.0) as manager:
        script = "trap 'echo goodbye; exit' TERM; echo $$; kill -STOP $$; sleep 600 & wait"
        task = await manager.submit("shell", ShellCommand(script, grace=10.0))
        child = psutil.Process(int(await first_line(task)))
        await until(lambda: child.status() == psutil.STATUS_STOPPED)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()

        assert lines_of(await tape_of(task), "stdout")[1:] == ["goodbye"]


async def test_timeout_ends_the_command(manager: TaskManager) -> None:
    """A timeout stops the processes as a cancel does, and the task failed with ``timeout``."""
    task = await manager.submit("shell", ShellCommand("echo $$; sleep 600"), timeout=0.3)
    child = int(await first_line(task))
    with pytest.raises(TaskFailed) as failed:
        await task.result()

    assert failed.value.error.code == "timeout"
    await until(lambda: not psutil.pid_exists(child))


async def test_process_left_behind_does_not_hold_up_the_end(manager: TaskManager) -> None:
    """A grandchild that keeps the output open costs the drain and no more; it is not killed."""
    task = await manager.submit("shell", ShellCommand("sleep 600 & echo $!", drain=0.1))
    events = await tape_of(task)
    grandchild = int(lines_of(events, "stdout")[0])
    lives = psutil.pid_exists(grandchild) and not is_zombie(grandchild)
    os.kill(grandchild, signal.SIGKILL)

    assert lives
    assert await task.result() == {"exit_status": 0}


async def test_what_a_left_behind_process_still_says_is_recorded(manager: TaskManager) -> None:
    """Output that comes within the drain, after the command's end, is on the tape."""
    # It waits until the shell has ended, and then for as long as it takes to count.
    until_ended = "until grep -q '^State:.*Z' /proc/$$/status; do :; done"
    script = f"({until_ended}; seq 1 500000 >/dev/null; echo late) & exit 0"
    task = await manager.submit("shell", ShellCommand(script, drain=10.0))

    assert lines_of(await tape_of(task), "stdout") == ["late"]


async def test_order_is_kept_in_a_flood(manager: TaskManager) -> None:
    """Thousands of lines at once are all recorded, in order."""
    task = await manager.submit("shell", ShellCommand("seq 1 5000"))

    assert lines_of(await tape_of(task), "stdout") == [str(n) for n in range(1, 5001)]


async def test_two_tasks_of_one_command_do_not_mix(manager: TaskManager) -> None:
    """A command object may run many times at once: it keeps nothing of a run."""
    command = ShellCommand("echo $$")
    tasks = [await manager.submit("shell", command) for _ in range(5)]
    said = [lines_of(await tape_of(task), "stdout") for task in tasks]

    assert len({line for (line,) in said}) == 5


async def test_full_tape_keeps_the_first_and_the_last_lines(tmp_path: Path) -> None:
    """Past the tape's limit the command runs on; the tape has both ends and counts the middle."""
    limits = StoreLimits(tape_events=100, queue=10)
    async with (
        SqliteStore(f"sqlite:///{tmp_path / 'small.db'}", limits=limits) as store,
        TaskManager(store) as manager,
    ):
        script = "seq 1 20000; echo FATAL >&2; exit 4"
        task = await manager.submit("shell", ShellCommand(script))
        events = await tape_of(task)

    recorded = [int(line) for line in lines_of(events, "stdout")]
    gap = next(event for event in events if event.type == "lines_left_out")
    head = [event.body["line"] for event in events[2 : gap.seq - 1] if event.type == "log"]
    head = [line for line in head if line != "FATAL"]
    missing = 20_000 - len(recorded)
    assert recorded == [*range(1, len(head) + 1), *range(len(head) + missing + 1, 20_001)]
    assert len(head) > 40
    assert len(recorded) - len(head) >= 5
    assert lines_of(events, "stderr") == ["FATAL"]
    left_out = range(len(head) + 1, len(head) + missing + 1)
    assert gap.body == {"lines": missing, "bytes": sum(len(str(n)) + 1 for n in left_out)}
    assert events[-1].body["error"]["details"] == {"exit_status": 4, "lines_not_recorded": missing}


async def test_the_last_lines_have_a_place_whatever_came_before(tmp_path: Path) -> None:
    """A flood on stderr, which may take all that is not theirs, leaves it to them."""
    limits = StoreLimits(tape_events=200, queue=10)
    async with (
        SqliteStore(f"sqlite:///{tmp_path / 'small.db'}", limits=limits) as store,
        TaskManager(store) as manager,
    ):
        task = await manager.submit("shell", ShellCommand("seq 1 500 >&2; echo LAST"))
        events = await tape_of(task)

    assert lines_of(events, "stdout") == ["LAST"]
    assert lines_of(events, "stderr")[-1] == "500"


async def test_a_flood_leaves_room_for_what_stderr_says_then(tmp_path: Path) -> None:
    """What stderr says in the midst of it is on the tape, whatever both say after that."""
    limits = StoreLimits(tape_events=200, queue=10)
    async with (
        SqliteStore(f"sqlite:///{tmp_path / 'small.db'}", limits=limits) as store,
        TaskManager(store) as manager,
    ):
        script = "seq 1 60000; echo WARNING >&2; seq 1 60000; seq 1 9000 >&2"
        task = await manager.submit("shell", ShellCommand(script))
        events = await tape_of(task)

    said = lines_of(events, "stderr")
    assert said[0] == "WARNING"
    assert said[-1] == "9000"


SECRETS = ["TAPESCOPE_STORE", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"]


@pytest.mark.parametrize("asked", [False, True])
async def test_a_command_inherits_no_secret_of_ours(
    manager: TaskManager, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """Neither the store's URL nor a collector's headers, unless the environment is handed on."""
    for name in (*SECRETS, "OTEL_SERVICE_NAME"):
        monkeypatch.setenv(name, "sesame")
    task = await manager.submit("shell", ShellCommand("env", env=os.environ if asked else None))
    await task.result()
    lines = [e.body["line"] for e in (await task.tape()).events if e.type == "log"]

    assert "OTEL_SERVICE_NAME=sesame" in lines
    assert {name: f"{name}=sesame" in lines for name in SECRETS} == dict.fromkeys(SECRETS, asked)


async def test_child_is_given_the_run_span(sqlite_url: str) -> None:
    """``TRACEPARENT`` names the run's span; a ``TRACESTATE`` of another trace is not passed on, but
    one of the run's own trace is."""
    telemetry = Telemetry(tracer_provider=TracerProvider(), trace_mode="child")
    env = {"PATH": os.environ["PATH"], "TRACESTATE": "a=b", "TRACEPARENT": "another"}
    seen: list[str | None] = []

    async def run(report: Any) -> Any:
        seen.append(report.traceparent)
        return await ShellCommand("env", env=env)(report)

    async with TaskManager(sqlite_url, telemetry=telemetry) as manager:
        lines = lines_of(await tape_of(await manager.submit("shell", run)), "stdout")
        with continue_trace(f"00-{'a' * 32}-{'b' * 16}-01 vendor=own"):
            task = await manager.submit("shell", run)
        own = lines_of(await tape_of(task), "stdout")

    assert f"TRACEPARENT={seen[0]}" in lines
    assert not any(line.startswith("TRACESTATE") for line in lines)
    assert f"TRACEPARENT={seen[1]}" in own
    assert "TRACESTATE=vendor=own" in own


async def test_inherited_traceparent_stays_without_telemetry(
    manager: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tracer, the variable that the child would inherit anyway is left alone."""
    monkeypatch.setenv("TRACEPARENT", "inherited")
    task = await manager.submit("shell", ShellCommand("echo $TRACEPARENT"))

    assert lines_of(await tape_of(task), "stdout") == ["inherited"]


async def test_stdin_is_empty_for_a_background_task(manager: TaskManager) -> None:
    """A task's command does not read what the host's stdin holds."""
    task = await manager.submit("shell", ShellCommand("cat; echo end"))

    assert lines_of(await tape_of(task), "stdout") == ["end"]


async def test_nothing_runs_on_when_the_loop_ends(tmp_path: Path) -> None:
    """A program that leaves its loop without closing the manager leaves no process behind."""
    pid_file = tmp_path / "pid"
    program = f"""
import asyncio
from pathlib import Path
from tapescope import ShellCommand, TaskManager

async def main():
    manager = await TaskManager("sqlite:///{tmp_path}/t.db").open()
    task = await manager.submit("shell", ShellCommand("echo $$ > {pid_file}; sleep 600"))
    async for event in task.follow():
        break
    while not Path("{pid_file}").exists() or not Path("{pid_file}").read_text().strip():
        await asyncio.sleep(0)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await process.wait()
    child = int(pid_file.read_text())

    await until(lambda: not psutil.pid_exists(child))


async def test_who_is_cancelled_twice_leaves_no_command_behind() -> None:
    """As at the end of a loop: nobody would look after a command that has its grace."""
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(_: str, chunk: bytes) -> None:
        await said.put(chunk)

    script = "trap 'echo no' TERM; echo $$; while :; do sleep 0.1; done"
    command = ShellCommand(script, sink=hear, grace=600.0)
    running = asyncio.ensure_future(command.run(LineRecorder(None), None))
    child = int(await said.get())
    running.cancel()
    await said.get()  # it was told to end, and lives on
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until(lambda: not psutil.pid_exists(child) or is_zombie(child))


async def test_runs_without_a_reporter() -> None:
    """A command runs without any task, too; its lines wait for one."""
    recorder = LineRecorder(None)
    result = await ShellCommand("echo one; echo two").run(recorder, None)

    lines = [event.body["line"] for event in recorder.backlog.remaining() if event.type == "log"]

    assert (result, lines) == ({"exit_status": 0}, ["one", "two"])


async def test_output_is_handed_to_the_sink_as_it_came() -> None:
    """The sink gets every byte, with its stream's name."""
    handed: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    async def keep(stream: str, chunk: bytes) -> None:
        handed[stream] += chunk

    command = ShellCommand(r"printf 'a\0\377'; printf 'b\n' >&2", sink=keep)
    recorder = LineRecorder(None)
    await command.run(recorder, None)
    recorder.give_up()

    assert handed == {"stdout": b"a\0\xff", "stderr": b"b\n"}


async def test_sink_that_takes_no_more_ends_the_output() -> None:
    """When the sink fails, the command meets a closed pipe, as if it wrote there itself."""

    async def refuse(stream: str, chunk: bytes) -> None:
        raise BrokenPipeError

    recorder = LineRecorder(None)
    with pytest.raises(CommandFailed) as failed:
        await ShellCommand(["yes"], sink=refuse).run(recorder, None)
    recorder.give_up()

    assert failed.value.exit_status == -signal.SIGPIPE


@pytest.mark.parametrize("settings", [{"grace": -1.0}, {"drain": float("nan")}])
def test_bad_times_are_refused(settings: dict[str, float]) -> None:
    """A time that is not a number of seconds is a ``BadSetting``, when the command is made."""
    with pytest.raises(BadSetting):
        ShellCommand("true", **settings)  # type: ignore[arg-type]  # one of its times


def test_empty_command_is_refused() -> None:
    """No command at all is a ``BadSetting``."""
    with pytest.raises(BadSetting):
        ShellCommand([])


async def test_cancelled_command_has_cancelled_in_row_and_final(store_url: str) -> None:
    """Row and final agree on a cancelled command, though SIGTERM ended it."""
    async with find_store(store_url) as store, TaskManager(store) as manager:
        task = await manager.submit("shell", ShellCommand("echo on; sleep 600"))
        await first_line(task)
        await task.cancel("stop it", by="tester")
        with suppress(TaskCancelled):
            await task.result()
        row, events = await task.status(), await tape_of(task)

    assert row.status.value == Outcome.CANCELLED
    assert events[-1].body["cancel"]["message"] == "stop it"


def is_zombie(pid: int) -> bool:
    """Whether a process is gone but for its parent's knowledge of it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
