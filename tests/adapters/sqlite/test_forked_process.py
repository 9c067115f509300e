"""A process that was forked while a SQLite store was open, and uses its file."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent


def run(program: str, *args: str) -> str:
    """What a program prints that begins in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", dedent(program), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_forked_child_may_not_open_what_its_parent_had_open(sqlite_url: str) -> None:
    """SQLite takes the parent's locks for the child's own, and the parent removes the log under the
    child when it closes. So the child is refused; a file that was closed before is the child's."""
    printed = run(
        """
        import asyncio, os, sys
        from tapescope import NewTask, StoreConfigError, find_store
        from tapescope.store import OpenMode
        from tapescope.store.validation import new_task_id

        url = sys.argv[1]
        ready, go = os.pipe(), os.pipe()

        async def count(url):
            async with find_store(url) as store:
                return sum((await store.count()).values())

        async def create(url, mode):
            store = find_store(url)
            store.open_mode = mode
            try:
                await store.open()
            except StoreConfigError as error:
                return "refused" if "was forked" in str(error) else error
            finally:
                os.write(opened[1], b"x")
            async with store:
                while os.read(closed[0], 1):
                    pass  # until the parent has closed the store, and its log with it
                await store.create(NewTask(new_task_id(), "work"))
                return "acknowledged"

        def fork():
            child = os.fork()
            if child:
                return child
            os.close(closed[1])
            asyncio.events._set_running_loop(None)
            loop = asyncio.new_event_loop()
            for path, mode in ((url, OpenMode.MIGRATE), (url, OpenMode.READ),
                               (url + "2", OpenMode.MIGRATE)):
                print(loop.run_until_complete(create(path, mode)), flush=True)
            os._exit(0)

        async def main():
            async with find_store(url):
                child = fork()
                os.read(opened[0], 1)
            return child

        opened, closed = os.pipe(), os.pipe()
        asyncio.run(count(url + "2"))  # closed before the fork
        child = asyncio.run(main())
        os.close(closed[1])
        os.waitpid(child, 0)
        print(asyncio.run(count(url)), asyncio.run(count(url + "2")))
        """,
        sqlite_url,
    )

    assert printed.splitlines() == ["refused", "refused", "acknowledged", "0 1"]
