"""A redaction hook is asked before anything of a run is kept or told, in whatever form."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from tapescope import (
    BadSetting,
    Codec,
    Reporter,
    ShellCommand,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskManager,
    Telemetry,
    Telling,
    ThreadReporter,
    ToldKind,
    find_store,
)
from tapescope.errors import EventDropped
from tapescope.model import NOT_REDACTED, TelemetrySource
from tapescope.testing import until
from tapescope_telemetry.guard import read_errors
from tapescope_telemetry.logs import JsonFormatter, OtelHandler
from tapescope_telemetry.telemetry import ExceptionTexts
from tests.cli.command import Tapescope
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.postgres_sessions import session
from tests.support.workbench import working

SECRET: Final = "hunter2"
"""No source line has it together with what names the place."""
PLANTED: Final = frozenset(
    {
        *("log", "progress", "partial", "event", "nowait", "thread", "thread-nowait", "line"),
        *("result", "message", "cause", "note", "group", "retried", "late", "cancel", "waiting"),
        *("cleanup", "overran"),
    }
)
"""Where the runners below say it. Each says where, so that a leak tells its place."""
TOLD_ANYWHERE = re.compile(rf"{SECRET}-([a-z-]+)")

Hook = Callable[[Telling, Any], Any]


def scrub(told: Telling, value: Any) -> Any:
    """What a user might write."""
    return json.loads(TOLD_ANYWHERE.sub("[gone]", json.dumps(value)))


def fail(told: Telling, value: Any) -> Any:
    """A defect in it, with what it was given in the error's text."""
    raise RuntimeError(value)


def exit_(told: Telling, value: Any) -> Any:
    """Another, which would end a process."""
    raise SystemExit(str(value))


def answer_rubbish(told: Telling, value: Any) -> Any:
    """Nothing that a tape could hold."""
    return {value} if isinstance(value, str) else object()


async def answer_later(told: Telling, value: Any) -> Any:
    """A hook is no coroutine."""
    return value


def mangle(told: Telling, value: Any) -> Any:
    """It changes what it was given, and then fails."""
    if isinstance(value, dict):
        value.clear()
    raise ValueError("mangled")


HOOKS: Mapping[str, Hook] = {
    "scrub": scrub,
    "fail": fail,
    "exit": exit_,
    "rubbish": answer_rubbish,
    "coroutine": answer_later,
    "mangle": mangle,
}


def say(where: str) -> str:
    """The secret, at this place."""
    return f"{SECRET}-{where}"


async def report(report: Reporter, secret: str) -> str:
    """Each kind of report, and a result."""
    await report.progress("phase", 1, 2, detail={"deep": [say("progress")]})
    await report.log("info", say("log"))
    await report.partial("kind", say("partial"))
    body = {say("event"): say("event")}
    await report.emit("own", body)
    assert body == {say("event"): say("event")}, "it is the runner's own"
    _ = report.emit_nowait("own", say("nowait"))
    return say("result")


def report_in_thread(report: ThreadReporter) -> None:
    """The reports of a plain function."""
    report.log("info", say("thread"))
    report.emit_nowait("own", [say("thread-nowait")])


async def raise_chained(report: Reporter) -> None:
    """An exception with another behind it, and a note."""
    try:
        raise KeyError(say("cause"))
    except KeyError as cause:
        error = ValueError(say("message"))
        error.add_note(say("note"))
        raise error from cause


async def raise_group(report: Reporter) -> None:
    """Two at once."""
    raise ExceptionGroup(say("group"), [ValueError(say("group")), KeyError(say("group"))])


async def raise_first(report: Reporter) -> None:
    """The first attempt fails."""
    if report.attempt == 1:
        raise OSError(say("retried"))


async def cleanup(report: Reporter) -> None:
    """Its cleanup raises."""
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError(say("cleanup"))


async def overrun(report: Reporter) -> None:
    """The same, after a timeout."""
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError(say("overran"))


class Late:
    """A thread that ignores its cancel, and reports when its task has long ended."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, report: ThreadReporter) -> None:
        self.go_on.wait(30)
        with suppress(EventDropped):
            report.log("info", say("late"))


class Witnesses:
    """All that a process tells: what it would send over OTLP, and what its log's handlers show."""

    def __init__(self, exception_texts: ExceptionTexts) -> None:
        self.captured = CapturedTelemetry()
        self.records = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.records))
        self.telemetry = Telemetry(
            tracer_provider=self.captured.tracer_provider,
            meter_provider=self.captured.meter_provider,
            logger_provider=self.loggers,
            exception_texts=exception_texts,
        )
        self.lines: list[str] = []
        self._handlers = [OtelHandler(self.loggers), _Lines(self.lines, logging.Formatter())]
        self._handlers.append(_Lines(self.lines, JsonFormatter()))

    def __enter__(self) -> None:
        logger = logging.getLogger("tapescope")
        logger.setLevel(logging.DEBUG)
        for handler in self._handlers:
            logger.addHandler(handler)

    def __exit__(self, *_: object) -> None:
        for handler in self._handlers:
            logging.getLogger("tapescope").removeHandler(handler)
        self.captured.close()
        self.loggers.shutdown()

    def read(self) -> dict[str, str]:
        """By witness."""
        return {
            "spans": str(encode_spans(self.captured.spans())),
            "log records": str(encode_logs(self.records.get_finished_logs())),
            "log lines": "\n".join(self.lines),
            "metrics": str(self.captured.metrics()),
        }


class _Lines(logging.Handler):
    def __init__(self, lines: list[str], formatter: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


async def read_store(url: str) -> str:
    """Every byte of a SQLite store's files, the log included; every row of a PostgreSQL one."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return b"".join(f.read_bytes() for f in path.parent.glob(f"{path.name}*")).decode("latin-1")
    async with session(url) as raw:
        tables = await raw.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = current_schema()::regnamespace"
        )
        rows = [await raw.fetch(f"SELECT t::text FROM {table[0]} t") for table in tables]
    return "\n".join(str(list(row)) for found in rows for row in found)


@asynccontextmanager
async def at_work(
    url: str, witnesses: Witnesses, hook: Hook | None, codec: Codec | None = None
) -> AsyncGenerator[TaskManager]:
    """A manager with the hook, its telemetry witnessed."""
    with witnesses:
        async with (
            find_store(url, telemetry=witnesses.telemetry) as store,
            TaskManager(
                store, redact=hook, codec=codec, cancel_grace=0.0, retry_delay=0.0
            ) as manager,
        ):
            yield manager


async def say_all(manager: TaskManager) -> list[str]:
    """Run all of it; gives what the callers of the tasks were told."""
    late = Late()
    told: list[str] = []

    async def end(handle: TaskHandle) -> None:
        try:
            told.append(str(await handle.result()))
        except (TaskFailed, TaskCancelled) as error:
            told.append(str(error))

    params = {"secret": say("params")}
    for runner in (raise_chained, raise_group, report_in_thread):
        await end(await manager.submit("x", runner))
    await end(await manager.submit("x", report, params=params))
    await end(await manager.submit("x", raise_first, retries=1))
    await end(await manager.submit("x", overrun, timeout=0.01))
    await end(await manager.submit("x", ShellCommand(["echo", say("line")])))
    waits = await manager.submit("x", raise_first, delay=60)
    await waits.cancel(say("waiting"))
    await end(waits)
    stopped = [await manager.submit("x", runner) for runner in (cleanup, late)]
    for handle in stopped:
        await until(partial(_runs, handle))
        await handle.cancel(say("cancel"))
        await end(handle)
    late.go_on.set()

    async def has_dropped() -> bool:
        return bool((await stopped[1].drops()).counts)

    await until(has_dropped)
    return told


async def _runs(handle: TaskHandle) -> bool:
    return (await handle.status()).attempt == 1


def show(url: str, home: Path) -> str:
    """What the command line prints of it."""
    tapescope = Tapescope(url, home)
    listed = tapescope.json("list")["tasks"]
    said = [tapescope.here("drops"), tapescope.here("drops", "--json")]
    for task in listed:
        said += [tapescope.here(name, task["task_id"]) for name in ("show", "tape")]
        said.append(tapescope.here("tape", task["task_id"], "--json"))
    assert all(done.returncode == 0 for done in said)
    return b"\n".join(done.stdout + done.stderr for done in said).decode()


class Mirror:
    """A codec that seals, as far as a test can see: what is stored is the text backwards."""

    name = "mirror"

    def encode(self, value: Any) -> Any:
        """Backwards."""
        return json.dumps(value)[::-1]

    def decode(self, stored: Any) -> Any:
        """Forwards."""
        return json.loads(stored[::-1])


SEALED: Final = frozenset({"progress", "partial", "event", "nowait", "thread-nowait", "result"})
"""What of ``PLANTED`` a codec encodes."""


@pytest.mark.parametrize("name", [None, "scrub", "fail"])
async def test_what_a_codec_seals_is_redacted_before(store_url: str, name: str | None) -> None:
    """With a codec that seals, the hook has plain values: the store has them in neither form.

    Without a hook they are all there, sealed: what is looked at is right.
    """
    seen: set[str] = set()

    def hook(told: Telling, value: Any) -> Any:
        seen.update(TOLD_ANYWHERE.findall(json.dumps(value)))
        return HOOKS[str(name)](told, value)

    witnesses = Witnesses("told")
    async with at_work(
        store_url, witnesses, None if name is None else hook, codec=Mirror()
    ) as manager:
        await say_all(manager)
        store = await read_store(store_url)
    plain = set(TOLD_ANYWHERE.findall(store))
    sealed = {one[::-1] for one in re.findall(rf"([a-z-]+)-{SECRET[::-1]}", store)}

    if name is None:
        assert plain == PLANTED - SEALED
        assert sealed == SEALED | {"params"}
    else:
        assert seen == PLANTED
        assert plain == set()
        assert sealed == {"params"}, "the row keeps what the runner is given"


RARE: Final = frozenset({"exit", "rubbish", "coroutine", "mangle"})
"""Ways to fail of which one is enough for every day."""


@pytest.mark.parametrize(
    "name",
    [None, *(pytest.param(n, marks=[pytest.mark.slow] if n in RARE else []) for n in HOOKS)],
)
async def test_nothing_is_kept_or_told_in_plain_text(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """Not in the store, in late events, spans, logs, nor to callers; whatever the hook does.

    Without a hook each is found somewhere, and in more than the store: what is looked at is right.
    """
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup")
    witnesses = Witnesses("told")
    before = read_errors()[TelemetrySource.REDACTION]
    async with at_work(store_url, witnesses, None if name is None else HOOKS[name]) as manager:
        callers = await say_all(manager)
        found = {"store": await read_store(store_url), "callers": "\n".join(callers)}
    counted = read_errors()[TelemetrySource.REDACTION] - before
    found |= witnesses.read() | {"command line": show(store_url, tmp_path)}
    leaks = {place: set(TOLD_ANYWHERE.findall(text)) for place, text in found.items()}

    only_in_the_row = {"store", "command line"}
    assert {place for place, names in leaks.items() if "params" in names} == only_in_the_row
    leaks = {place: names - {"params"} for place, names in leaks.items()}
    if name is None:
        assert leaks["store"] == PLANTED
        assert leaks["spans"] >= {"message", "cause", "note", "group", "retried"}
        assert leaks["log lines"] >= {"message", "cause", "note", "group", "retried"}
        assert leaks["log records"] >= {"message", "cause", "note", "group", "retried"}
    else:
        assert not any(leaks.values()), leaks
        assert ("[gone]" if name == "scrub" else NOT_REDACTED) in found["store"]
    assert (counted > 10) is (name not in (None, "scrub"))
    hook_failed = [line for line in witnesses.lines if "The redaction hook raised" in line]
    assert len(hook_failed) <= 4 * len(HOOKS), "once for each kind of error, by two formatters"


async def test_hook_is_told_what_it_is_asked_about(any_url: str) -> None:
    """The kind, the op and the part; each value once, as JSON has it."""
    asked: list[tuple[str, str | None, str, Any]] = []

    def note(told: Telling, value: Any) -> Any:
        asked.append((told.kind.value, told.op, told.path, value))
        return value

    async def work(report: Reporter) -> None:
        await report.emit("own", ("a", "b"))
        await report.progress("phase", 1)
        raise ValueError("no")

    async def give(report: Reporter) -> tuple[int, int]:
        return 1, 2

    async with working(any_url, redact=note) as bench:
        with suppress(TaskFailed):
            await (await bench.manager.submit("mine", work)).result()
        result = await (await bench.manager.submit("yours", give)).result()
        waits = await bench.manager.submit("mine", give, delay=60, tags=["t"])
        await waits.cancel("why")

    progress = {"phase": "phase", "current": 1, "total": None}
    told = [one for one in asked if one[2] != "traceback"]
    assert result == [1, 2]
    assert told == [
        ("event", "mine", "own", ["a", "b"]),
        ("event", "mine", "progress", progress),
        ("exception", "mine", "message", "no"),
        ("result", "yours", "result", [1, 2]),
        ("tag", "mine", "tags", "t"),
        ("cancel", None, "message", "why"),
    ]
    assert len(asked) == len(told) + 1
    assert {kind for kind, *_ in asked} == set(ToldKind)


@pytest.mark.parametrize("name", HOOKS)
async def test_task_goes_on_whatever_the_hook_does(name: str) -> None:
    """A retry is a retry, a failure fails by its own class, and a result is one."""
    async with working("memory:", redact=HOOKS[name], retry_delay=0.0) as bench:
        retried = await bench.manager.submit("x", raise_first, retries=1)
        failed = await bench.manager.submit("x", raise_chained)
        given = await bench.manager.submit("x", report, params={"secret": "it is given"})
        await retried.result()
        with pytest.raises(TaskFailed) as raised:
            await failed.result()
        result = await given.result()
        (span,) = bench.run_spans(failed.task_id)

    assert raised.value.error.code == "ValueError"
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ValueError"
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "ValueError"
    assert result == ("[gone]" if name == "scrub" else NOT_REDACTED)


async def test_hidden_exception_texts_are_on_the_tape_alone(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans and logs have the class and the frames of an exception, and nothing that it says."""
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup")
    witnesses = Witnesses("hidden")
    async with at_work(sqlite_url, witnesses, None) as manager:
        for runner, retries in ((raise_chained, 0), (raise_group, 0), (raise_first, 1)):
            with suppress(TaskFailed):
                await (await manager.submit("x", runner, retries=retries)).result()
        store = await read_store(sqlite_url)
    found = witnesses.read()

    assert set(TOLD_ANYWHERE.findall(store)) == {"message", "cause", "note", "group", "retried"}
    assert TOLD_ANYWHERE.findall("".join(found.values())) == []
    for told in ("spans", "log records", "log lines"):
        assert "ValueError" in found[told]
        assert "in raise_chained" in found[told]


async def test_hook_is_a_function() -> None:
    """Anything else is refused where it is given."""
    with pytest.raises(BadSetting, match="redact"):
        TaskManager("sqlite:///x.db", redact="scrub")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # the mistake
