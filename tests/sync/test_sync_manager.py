"""The sync door: the verbs as plain calls, from any thread, in a program that may fork and exit."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tapescope import (
    ManagerClosed,
    ManagerOpen,
    Ops,
    OpTaken,
    Reporter,
    ResultTimeout,
    StoreConfigError,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskStatus,
    ThreadReporter,
    UnknownSchedule,
    UnknownTask,
    WouldBlockLoop,
)
from tapescope.manager.schedules import ManagerSchedules
from tapescope.store.flush import Flush
from tapescope.sync import ManagerSettings, SyncManager
from tapescope.sync.schedules import SyncSchedules
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.manager.test_process import run
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.memory_stores import FaultyBackend

ops = Ops()


@ops.op("double")
async def double(report: Reporter, number: int) -> int:
    """A runner in the loop."""
    await report.progress("halves", 1, 2)
    return 2 * number


@ops.op("spell")
def spell(report: ThreadReporter, number: int) -> str:
    """A runner in a thread, which fails for what it cannot spell."""
    return {1: "one", 2: "two"}[number]


def tell_thread(report: ThreadReporter) -> str:
    """Where a runner in a thread is run."""
    return threading.current_thread().name


def make(url: str, **settings: object) -> SyncManager:
    """A manager of the ops above; ``memory:`` is a store that is handed in."""
    store = MemoryStore() if url == "memory:" else url
    return SyncManager(store, ops=ops, **settings)  # type: ignore[arg-type]


def test_every_verb_is_a_plain_call(any_url: str) -> None:
    """Submits of each kind, results by their types, the tape as it is written, and what the store
    says of the tasks."""
    with make(any_url, work=True) as tasks:
        by_op = tasks.submit_bound(double.bind(21))
        doubled: int = by_op.result(30)
        followed = [event.type for event in by_op.follow()]
        by_name = tasks.submit("spell", params={"number": 2}, idempotency_key="two")
        again = tasks.submit("spell", params={"number": 2}, idempotency_key="two")
        one, failing = tasks.submit_many([spell.bind(1), spell.options(retries=0).bind(number=3)])
        here = tasks.submit("here", tell_thread)
        with pytest.raises(TaskFailed, match="KeyError"):
            failing.result(30)
        late = tasks.submit("double", params={"number": 1}, delay=600)
        late.cancel("not needed", by="a test")
        with pytest.raises(TaskCancelled):
            late.result(30)
        waits = tasks.submit_bound(double.options(delay=600).bind(1))
        with pytest.raises(ResultTimeout, match="waits for its time"):
            waits.result(0.01)
        with pytest.raises(UnknownTask):
            tasks.get("01a22486-fd71-759e-a50d-87791cb41904")
        anew = tasks.resubmit(failing.task_id)
        results = by_name.result(30), again.result(30), one.result(30), here.result(30)
        spelled = tasks.handle(one.task_id)
        tasks.announce()

        assert (doubled, results[:3]) == (42, ("two", "two", "one"))
        assert results[3] != threading.current_thread().name
        assert followed == ["task_started", "progress", "final"]
        assert [by_name.created, again.created, spelled.created] == [True, False, None]
        assert spelled.result() == "one"
        assert tasks.get(late.task_id).status is TaskStatus.CANCELLED
        assert anew.task_id in {task.task_id for task in tasks.list(op="spell").tasks}
        assert tasks.count(op="double")[TaskStatus.SUCCEEDED] == 1
        assert [event.type for event in tasks.tape(late.task_id).events] == ["final"]
        assert tasks.drops() == waits.drops()
        assert tasks.knows_op("spell")
        assert tasks.ops == ("double", "spell")
        assert tasks.audit().violations == ()
        assert all(check.ok for check in tasks.check_health())
        assert tasks.decode({"plain": 1}) == {"plain": 1}
        waits.cancel()


def test_it_submits_only_unless_it_is_told_to_work(sqlite_url: str) -> None:
    """By default an op is left to the store's workers; one with ``work`` takes it, and any op that
    is added later, from whatever thread."""
    late = Ops()
    with SyncManager(sqlite_url, ops=[ops, late]) as submits:
        with pytest.raises(ManagerOpen):
            submits.reconfigure(work=True)
        left = submits.submit_bound(double.bind(1))
        with pytest.raises(ResultTimeout, match="no worker"):
            left.result(0.01)
        with SyncManager(sqlite_url, work=True, poll=0.05) as works:
            works.op("double")(double.runner.call)

            assert left.result(30) == 2
            with pytest.raises(OpTaken):
                works.op("double")(spell.runner.call)
    submits.reconfigure(store=MemoryStore(), work=True, drain=1)
    with submits:
        assert submits.submit_bound(double.bind(2)).result(30) == 4


@pytest.mark.parametrize("count", [960, pytest.param(10_000, marks=pytest.mark.slow)], ids=str)
def test_many_threads_submit_at_once(store_url: str, count: int) -> None:
    """32 threads, one manager that none of them has opened: no task is lost, none is there twice,
    and all are one store's, with one owner."""
    tasks, threads = make(store_url), 32
    start = threading.Barrier(threads)

    def submit(thread: int) -> list[str]:
        start.wait()
        return [
            tasks.submit("double", params={"number": number}).task_id
            for number in range(thread, count, threads)
        ]

    with ThreadPoolExecutor(threads) as pool:
        ids = [one for part in pool.map(submit, range(threads)) for one in part]
    found = Counter[int]()
    before = None
    with tasks:
        while True:
            page = tasks.list(limit=1_000, before=before)
            found.update(task.params["number"] for task in page.tasks)
            if (before := page.next) is None:
                break

    assert len(set(ids)) == count
    assert found == dict.fromkeys(range(count), 1)


def test_a_call_in_a_loop_is_refused_unless_it_may_block(sqlite_url: str) -> None:
    """A coroutine is told of the async door; a notebook, whose cells run in a loop, may wait."""
    refused: list[str] = []

    async def call(tasks: SyncManager) -> str:
        return tasks.submit("double", params={"number": 1}).task_id

    async def try_each(tasks: SyncManager) -> None:
        handle = tasks.handle("01a22486-fd71-759e-a50d-87791cb41904")
        verbs: list[Callable[[], object]] = [
            tasks.open, tasks.close, tasks.count, handle.status, handle.result,
            lambda: next(handle.follow()), lambda: tasks.submit("double"),
        ]  # fmt: skip
        for verb in verbs:
            with pytest.raises(WouldBlockLoop) as told:
                verb()
            refused.append(str(told.value))

    with make(sqlite_url) as tasks:
        asyncio.run(try_each(tasks))
        in_a_thread = asyncio.run(asyncio.to_thread(asyncio.run, asyncio.sleep(0, tasks.count())))
    with make(sqlite_url, block_loop=True) as notebook:
        made = asyncio.run(call(notebook))

        assert notebook.get(made).op == "double"
    assert len(refused) == 7
    assert "TaskManager" in refused[0]
    assert "block_loop=True" in refused[0]
    assert sum(in_a_thread.values()) == 0


def test_closed_it_takes_no_calls_until_it_is_opened_again(sqlite_url: str) -> None:
    """Who waits when it is closed is told so; its handles are good in its next life."""
    tasks = make(sqlite_url)
    far = tasks.submit("elsewhere")
    waiting, follower = threading.Barrier(3), far.follow()

    def wait(wait: Callable[[], object]) -> BaseException | None:
        waiting.wait()
        try:
            wait()
        except ManagerClosed as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        told = [pool.submit(wait, far.result), pool.submit(wait, lambda: next(follower))]
        waiting.wait()
        tasks.close()
        tasks.close()
        errors = [one.result(30) for one in told]
    closed = tasks.is_open
    with pytest.raises(ManagerClosed):
        tasks.submit("elsewhere")
    with pytest.raises(ManagerClosed):
        far.status()
    with tasks:
        status = far.status().status

    assert closed is False
    assert [type(error) for error in errors] == [ManagerClosed] * 2
    assert status is TaskStatus.PENDING


def test_a_store_that_cannot_be_opened_is_said_to_each_caller(sqlite_url: str) -> None:
    """And is opened by the first call that finds it."""
    url = sqlite_url.replace("tasks.db", "folder/tasks.db")
    tasks = make(url)

    def submit(_: int) -> str:
        with pytest.raises(StoreConfigError, match="does not exist") as told:
            tasks.submit("double")
        return str(told.value)

    with ThreadPoolExecutor(8) as pool:
        errors = set(pool.map(submit, range(8)))
    os.mkdir(os.path.dirname(url.removeprefix("sqlite:///")))
    with tasks:
        tasks.submit("double", params={"number": 1})

        assert sum(tasks.count().values()) == len(errors) == 1


def test_ctrl_c_ends_a_wait_and_no_task() -> None:
    """The interrupt is raised where the caller waits; the task goes on."""
    waiting, go_on = threading.Event(), threading.Event()

    def interrupt(report: ThreadReporter) -> str:
        waiting.wait(30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        go_on.wait(30)
        return "went on"

    def wait() -> None:
        waiting.set()
        task.result(30)

    with make("memory:") as tasks:
        task = tasks.submit("interrupt", interrupt)
        with pytest.raises(KeyboardInterrupt):
            wait()
        go_on.set()

        assert task.result(30) == "went on"


def test_ctrl_c_in_a_submit_leaves_no_task_at_work() -> None:
    """What was under way to the store when the caller was interrupted ends as cancelled there."""
    backend = FaultyBackend()
    interrupted = threading.Event()

    async def interrupt(flush: Flush) -> None:
        if flush.creates and not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            deadline = asyncio.get_running_loop().time() + 5
            calls = [task for task in asyncio.all_tasks() if "carry_out" in repr(task)]
            while not any(call.cancelling() for call in calls):  # the flush is under way till then
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0)

    store = MemoryStore(backend=backend)
    tasks = SyncManager(store)
    with tasks:
        backend.before = interrupt
        with pytest.raises(KeyboardInterrupt):
            tasks.submit("elsewhere")
    with tasks:
        (task,) = tasks.list().tasks

    assert task.status is TaskStatus.CANCELLED


def test_ctrl_c_while_it_closes_skips_the_drain() -> None:
    """The task that runs is cancelled; the interrupt is raised when that has its end."""

    async def closes() -> bool:
        return not tasks.is_open

    async def interrupt(report: Reporter) -> None:
        begun.set()
        await until(closes)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 3)

    begun = threading.Event()
    tasks = SyncManager(MemoryStore(backend=MemoryBackend()), drain=600, cancel_grace=5)
    task = tasks.submit("interrupt", interrupt)
    begun.wait(30)
    with pytest.raises(KeyboardInterrupt):
        tasks.close()
    with tasks:
        status = task.status()

    assert status.status is TaskStatus.CANCELLED


def test_a_loop_that_is_left_ends_its_follower(sqlite_url: str) -> None:
    """No subscription stays in the store."""
    captured = CapturedTelemetry()

    def read_lag() -> float:
        return sum(point.value for point in captured.points("tapescope.subscriber.lag"))

    with make(sqlite_url, work=True, telemetry=captured.telemetry) as tasks:
        task = tasks.submit_bound(double.bind(1))
        task.result(30)
        follower = task.follow()
        first, during = next(follower).seq, read_lag()
        follower.close()  # as the end of a loop that is left does
        tasks.count()  # the loop has come to what was left
        after = read_lag()
    captured.close()

    assert (first, during, after) == (1, 3, 0)


def test_a_submit_is_in_its_callers_span(sqlite_url: str) -> None:
    """The span of the request in which a view submits."""
    captured = CapturedTelemetry()
    tracer = captured.tracer_provider.get_tracer("a view")
    with (
        make(sqlite_url, telemetry=captured.telemetry) as tasks,
        tracer.start_as_current_span("request") as request,
    ):
        tasks.submit("double", params={"number": 1})
    (submit,) = [span for span in captured.spans() if span.name == "submit double"]
    captured.close()

    assert submit.parent is not None
    assert submit.parent.span_id == request.get_span_context().span_id


def test_its_settings_are_those_of_the_manager() -> None:
    """None is forgotten when one is added there."""
    theirs = set(inspect.signature(TaskManager).parameters) - {"store", "work", "ops"}

    assert set(ManagerSettings.__annotations__) == theirs
    verbs = {name for name in dir(TaskManager) if not name.startswith("_")}
    ours = {name for name in dir(SyncManager) if not name.startswith("_")}
    assert verbs - ours == {"aclose", "engine", "owner"}  # what awaits, and names


FORKING = """
    from tapescope.sync import SyncManager
    logging.getLogger("tapescope").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("tapescope").setLevel(logging.INFO)
    tasks = SyncManager(sys.argv[1])
    before = tasks.submit("x")
    held = tasks._door._lock.acquire()  # another thread's, at the moment of the fork
    child = os.fork()
    if child == 0:
        signal.alarm(25)  # of a child that hangs nobody is left
        try:
            print(before.status().op, tasks.submit("x").created, tasks.count()["pending"])
            tasks.close()
        except StoreConfigError as error:
            print("was forked" in str(error))
        sys.stdout.flush()
        os._exit(0)
    tasks._door._lock.release()
    os.waitpid(child, 0)
    print(tasks.submit("x").created, sum(tasks.count().values()))
"""


def test_a_forked_child_has_a_manager_of_its_own(postgres_url: str) -> None:
    """It opens one with its first call, and says so; the parent's goes on."""
    printed = run(FORKING, postgres_url)

    assert printed.splitlines() == [
        "This process was forked: it opens a manager of its own.",
        "x True 2",
        "True 3",
    ]


def test_a_forked_child_does_not_open_the_parents_file(sqlite_url: str) -> None:
    """SQLite cannot, where the file was open at the fork."""
    printed = run(FORKING, sqlite_url)

    assert printed.splitlines()[1:] == ["True", "True 2"]


def test_a_program_that_closes_nothing_leaves_nothing_open(sqlite_url: str) -> None:
    """At its exit the manager is closed: what runs is drained, the rest ends as ``shutdown``, and
    who calls after that is told so. Nor does a runner that calls its own loop wait for itself."""
    printed = run(
        """
        import atexit
        from tapescope.sync import SyncManager
        @atexit.register
        def late():
            try:
                tasks.count()
            except ManagerClosed:
                print("closed", flush=True)
        begun = threading.Event()
        async def drain(report):
            begun.set()
            await asyncio.sleep(0.1)
        async def call_itself(report):
            tasks.count()
        def begin():
            global tasks
            tasks = SyncManager(sys.argv[1], drain=10, block_loop=True)
            try:
                tasks.submit("itself", call_itself).result()
            except TaskFailed as error:
                print(error.error.code)
            tasks.submit("drained", drain)
            tasks.submit("far", drain, delay=600)
            begun.wait()
        begin()
        """,
        sqlite_url,
    )
    with SyncManager(sqlite_url) as tasks:
        ends = {task.op: (task.status, tasks.tape(task.task_id)) for task in tasks.list().tasks}

    assert "tapescope.errors.WouldBlockLoop" in printed
    assert printed.splitlines()[-1] == "closed"
    assert ends["drained"][0] is TaskStatus.SUCCEEDED
    assert ends["far"][0] is TaskStatus.CANCELLED
    assert ends["far"][1].events[-1].body["cancel"]["reason"] == "shutdown"


def test_schedules_are_changed_by_plain_calls(store_url: str) -> None:
    """Added, listed, paused, resumed, triggered and removed, from a thread without a loop."""
    with make(store_url, work=True) as tasks:
        added = tasks.schedules.add("nightly", double.bind(number=4), cron="0 3 * * *")
        paused = tasks.schedules.pause("nightly")
        result = tasks.schedules.trigger("nightly").result()
        resumed = tasks.schedules.resume("nightly")
        (listed,) = tasks.schedules.list().schedules
        same = tasks.schedules.get("nightly")
        tasks.schedules.remove("nightly")
        with pytest.raises(UnknownSchedule):
            tasks.schedules.get("nightly")

    assert (added.params, added.paused, paused.paused, resumed.paused) == (
        {"number": 4},
        False,
        True,
        False,
    )
    assert result == 8
    assert listed == same == resumed


def test_ops_are_paused_by_plain_calls(store_url: str) -> None:
    """What is submitted meanwhile waits, until the resume; the pause is listed with its reason."""
    with make(store_url, work=True) as tasks:
        paused = tasks.pause("double", reason="why", by="ann")
        waiting = tasks.submit("double", params={"number": 4})
        listed = tasks.list_paused()
        with pytest.raises(ResultTimeout):
            waiting.result(0.05)
        ended = tasks.resume("double")
        result = waiting.result(10)

    assert listed.pauses == (paused,)
    assert ended == paused
    assert (paused.by, paused.reason, result) == ("ann", "why", 8)


def test_every_verb_of_schedules_is_there() -> None:
    """With the arguments of the asynchronous one."""
    verbs = [name for name in dir(ManagerSchedules) if not name.startswith("_")]

    assert verbs == [name for name in dir(SyncSchedules) if not name.startswith("_")]
    for name in verbs:
        ours = inspect.signature(getattr(SyncSchedules, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(ManagerSchedules, name)).parameters)


def test_messages_are_sent_and_taken_by_plain_calls() -> None:
    """By the handle and by the manager; the runner in its thread is given them in their order."""

    def add(report: ThreadReporter) -> int:
        return int(report.message().body) + int(report.message(timeout=10).body)

    with SyncManager(MemoryStore()) as manager:
        task = manager.submit("add", add)
        first = task.send(1, key="k")
        again = manager.send(task.task_id, 1, key="k")
        task.send(2)
        result = task.result(10)
        listed = task.messages().messages

    assert (first.new, again.new) == (True, False)
    assert result == 3
    assert [(one.n, one.body) for one in listed] == [(1, 1), (2, 2)]
