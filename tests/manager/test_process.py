"""What only a process of its own can show: exits, crashes, signals, forks, closed loops."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest


def run(script: str, *arguments: str, exit_status: int = 0) -> str:
    """Run a script in a fresh interpreter with all warnings on; what it printed.

    But not what the loop's debug mode says of a callback that took long: on a busy machine any may.
    """
    prelude = """
    import asyncio, logging, os, signal, sys, threading, time
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    from tapescope import *
    from tapescope.testing import MemoryBackend, MemoryStore
    """
    done = subprocess.run(
        [
            *(sys.executable, "-X", "dev", "-c"),
            textwrap.dedent(prelude) + textwrap.dedent(script),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == exit_status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr or exit_status, done.stderr
    return done.stdout + done.stderr


def test_a_crash_with_a_blocked_thread_still_exits(sqlite_url: str) -> None:
    """A program that fails without closing its manager exits, though a runner's thread blocks."""
    began = time.monotonic()
    printed = run(
        """
        async def main():
            begun = threading.Event()
            def block(report):
                begun.set()
                threading.Event().wait()
            manager = await TaskManager(sys.argv[1]).open()
            await manager.submit("block", block)
            while not begun.is_set():
                await asyncio.sleep(0)
            raise SystemExit("crashed")
        asyncio.run(main())
        """,
        sqlite_url,
        exit_status=1,
    )

    assert "crashed" in printed
    assert time.monotonic() - began < 25


def test_a_crash_with_a_running_coroutine_still_exits(store_url: str) -> None:
    """A program that fails without closing its manager exits, and the run is not left hanging."""
    printed = run(
        """
        async def main():
            begun = asyncio.Event()
            async def work(report):
                begun.set()
                await asyncio.Event().wait()
            manager = await TaskManager(sys.argv[1]).open()
            await manager.submit("work", work)
            await begun.wait()
            raise SystemExit("crashed")
        asyncio.run(main())
        """,
        store_url,
        exit_status=1,
    )

    assert "crashed" in printed


@pytest.mark.parametrize(("kind", "delay"), [("creates", ""), ("claims", "0"), ("rows", "0")])
def test_a_crash_in_the_midst_of_a_write_still_exits(kind: str, delay: str) -> None:
    """A program that fails in the midst of a write does not wait for it: of a create with its
    claim, of a claim on its own, of a ``final``."""
    printed = run(
        """
        class StuckBackend(MemoryBackend):
            async def write(self, flush):
                if getattr(flush, sys.argv[1]):
                    stuck.set()
                    await asyncio.Event().wait()
                return await super().write(flush)
        async def work(report):
            return "done"
        async def main():
            global stuck
            stuck = asyncio.Event()
            manager = await TaskManager(await MemoryStore(backend=StuckBackend()).open()).open()
            delay = float(sys.argv[2]) if sys.argv[2] else None
            submitting = asyncio.ensure_future(manager.submit("work", work, delay=delay))
            await stuck.wait()
            raise SystemExit("crashed")
        asyncio.run(main())
        """,
        kind,
        delay,
        exit_status=1,
    )

    assert printed.splitlines()[-1] == "crashed"


@pytest.mark.parametrize(
    "turns", [0, *(pytest.param(turns, marks=pytest.mark.slow) for turns in (1, 2, 3))]
)
def test_a_crash_right_after_a_submit_still_exits(sqlite_url: str, turns: int) -> None:
    """Nor for a claim that waits for a flush which has not even begun."""
    printed = run(
        """
        async def work(report):
            await asyncio.Event().wait()
        async def main():
            manager = await TaskManager(sys.argv[1]).open()
            await manager.submit("work", work)
            for _ in range(int(sys.argv[2])):
                await asyncio.sleep(0)
            raise SystemExit("crashed")
        asyncio.run(main())
        """,
        sqlite_url,
        str(turns),
        exit_status=1,
    )

    assert "crashed" in printed.splitlines()  # Python may tell of the store that was left open


def test_a_crash_in_the_midst_of_a_heartbeat_still_exits(store_url: str) -> None:
    """The thread of the heartbeats, stuck in one, does not keep the interpreter from ending."""
    printed = run(
        """
        from tapescope.store.backend import LeaseRenewer
        from tapescope import find_store
        class Stuck(LeaseRenewer):
            async def extend_leases(self, owner, lease, task_ids):
                print("stuck", flush=True)
                loop.call_soon_threadsafe(stuck.set)
                threading.Event().wait()
            async def aclose(self):
                pass
        async def main():
            global loop, stuck
            loop, stuck = asyncio.get_running_loop(), asyncio.Event()
            async def work(report):
                await asyncio.Event().wait()
            store = await find_store(sys.argv[1]).open()
            store.backend.make_lease_renewer = Stuck
            manager = await TaskManager(store, lease=60, heartbeat=0.01).open()
            await manager.submit("work", work)
            await stuck.wait()
            raise SystemExit("crashed")
        asyncio.run(main())
        """,
        store_url,
        exit_status=1,
    )

    assert printed.split() == ["stuck", "crashed"]


def test_ctrl_c_closes_the_manager(sqlite_url: str) -> None:
    """A SIGINT cancels the main task: the drain is skipped and the tape gets its ``final``."""
    printed = run(
        """
        tasks = []
        async def main():
            begun = asyncio.Event()
            async def work(report):
                begun.set()
                await asyncio.Event().wait()
            async with TaskManager(sys.argv[1], drain=0) as manager:
                tasks.append(await manager.submit("work", work))
                await begun.wait()
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        async def look():
            async with TaskManager(sys.argv[1]) as manager:
                print((await manager.handle(tasks[0].task_id).status()).status.value)
        asyncio.run(look())
        """,
        sqlite_url,
    )

    assert printed.split() == ["interrupted", "cancelled"]


def test_a_closed_loop_hears_nothing_of_a_thread() -> None:
    """A thread that outlives its loop ends without an error print, and its reports say so."""
    printed = run(
        """
        begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
        def work(report):
            begun.set()
            go_on.wait()
            for call in (report.log, report.emit_nowait):
                try:
                    call("info", "late")
                except StoreClosed:
                    print("told")
            ended.set()
        async def main():
            async with MemoryStore() as store:
                async with TaskManager(store, drain=0, cancel_grace=0) as manager:
                    await manager.submit("work", work)
                    await asyncio.to_thread(begun.wait)
        asyncio.run(main())
        go_on.set()
        ended.wait(10)
        """
    )

    assert printed.split() == ["told", "told"]


def test_a_thread_that_waits_for_an_answer_learns_that_its_loop_ended() -> None:
    """A blocking report whose loop is closed before it could answer raises instead of hanging."""
    printed = run(
        """
        stuck, ended = asyncio.Event(), threading.Event()
        class StuckBackend(MemoryBackend):
            async def write(self, flush):
                if any(row.type == "log" for row in flush.rows):
                    stuck.set()
                    await asyncio.Event().wait()
                return await super().write(flush)
        def work(report):
            try:
                report.log("info", "x")
            except StoreClosed:
                print("told")
            ended.set()
        loop = asyncio.new_event_loop()
        async def main():
            manager = await TaskManager(await MemoryStore(backend=StuckBackend()).open()).open()
            await manager.submit("work", work)
            await stuck.wait()
            for task in asyncio.all_tasks():
                task._log_destroy_pending = False
        loop.run_until_complete(main())
        loop.close()
        ended.wait(10)
        """
    )

    assert printed.split() == ["told"]


def test_a_closed_loop_ends_the_span_as_lost() -> None:
    """A loop that is closed under a run leaves its tape open, and its span ended as ``lost``."""
    printed = run(
        """
        import gc
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        telemetry = Telemetry(tracer_provider=provider)
        begun = asyncio.Event()
        async def work(report):
            begun.set()
            await asyncio.Event().wait()
        async def main():
            store = await MemoryStore(telemetry=telemetry).open()
            manager = await TaskManager(store).open()
            await manager.submit("work", work)
            await begun.wait()
            for task in asyncio.all_tasks():
                task._log_destroy_pending = False
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        del loop
        gc.collect()
        for span in exporter.get_finished_spans():
            print(span.name, span.status.status_code.name,
                  span.attributes.get("tapescope.task.outcome"), sep="|")
        """
    )

    assert printed.splitlines() == ["submit work|UNSET|None", "run work|ERROR|lost"]


def test_a_forked_child_may_not_use_the_manager() -> None:
    """A manager or a store that is used in a forked child raises ``UsedAfterFork``; the parent goes
    on."""
    printed = run(
        """
        async def work(report):
            return "done"
        async def use(manager, store):
            for call in (
                manager.submit("work", work), manager.aclose(), manager.open(),
                store.count(), store.aclose(), store.open(),
            ):
                try:
                    await call
                except UsedAfterFork:
                    print("refused", flush=True)
        async def main():
            async with MemoryStore() as store, TaskManager(store) as manager:
                child = os.fork()
                if child == 0:
                    asyncio.events._set_running_loop(None)
                    asyncio.new_event_loop().run_until_complete(use(manager, store))
                    os._exit(0)
                os.waitpid(child, 0)
                print(await (await manager.submit("work", work)).result())
        asyncio.run(main())
        """
    )

    assert printed.split() == ["refused"] * 6 + ["done"]


def test_a_manager_made_before_a_fork_is_opened_after_it(sqlite_url: str) -> None:
    """A server that imports the program first and forks then: owner and pid are the child's."""
    printed = run(
        """
        manager = TaskManager(sys.argv[1])
        before = manager.owner
        @manager.op("work")
        async def work(report):
            return os.getpid()
        async def main():
            async with manager:
                ran_in = await (await manager.submit("work")).result()
                print(ran_in == os.getpid(), manager.owner.split(":")[1] == str(os.getpid()),
                      manager.owner != before, flush=True)
        child = os.fork()
        if child == 0:
            asyncio.run(main())
            os._exit(0)
        os.waitpid(child, 0)
        """,
        sqlite_url,
    )

    assert printed.split() == ["True"] * 3


@pytest.mark.parametrize("fence_first", [False, True])
def test_the_exit_does_not_wait_for_a_zombie(fence_first: bool) -> None:
    """A program that closed its manager exits while a fenced thread still blocks."""
    printed = run(
        f"""
        begun = threading.Event()
        def block(report):
            begun.set()
            threading.Event().wait()
        async def main():
            async with MemoryStore() as store:
                async with TaskManager(store, drain=0, cancel_grace=0.01) as manager:
                    task = await manager.submit("block", block)
                    await asyncio.to_thread(begun.wait)
                    if {fence_first}:
                        await task.cancel()
                        try:
                            await task.result()
                        except TaskCancelled:
                            pass
                print((await store.get(task.task_id)).status.value)
        asyncio.run(main())
        """
    )

    assert printed.split() == ["cancelled"]
