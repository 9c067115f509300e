"""A process that forks off one ``tapescope`` for each line of its stdin, and prints its status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["enter"]


_LOADED = (
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "tapescope.cli._main",
    "tapescope.cli.commands.run",
    "tapescope_adapters.sqlite.store",
    "tapescope_telemetry.exporters",
)
"""Once, and not by each."""


def enter(folder_is_gone: bool, closed: Sequence[int]) -> None:
    """Go where no folder is any more, and close some of the standard streams."""
    if folder_is_gone:
        gone = Path("gone")
        gone.mkdir()
        os.chdir(gone)
        os.rmdir(Path.cwd())
    for fd in closed:
        os.close(fd)


def _become(order: Any) -> None:
    """Be ``tapescope`` in the environment of the order; does not return."""
    os.chdir(order["folder"])
    for fd, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    for _ in range(order["extra"]):
        os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    os.environ.clear()
    os.environb.update(
        {name.encode("latin-1"): value.encode("latin-1") for name, value in order["env"]}
    )
    enter(order["folder_is_gone"], order["closed"])
    from tapescope.cli import main

    main([os.fsdecode(one.encode("latin-1")) for one in order["arguments"]])


def _serve() -> None:
    for module in _LOADED:
        import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                _become(json.loads(line))
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 70
            except BaseException:  # noqa: BLE001  # told on its stderr, which the test reads
                traceback.print_exc()
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


if __name__ == "__main__":
    _serve()
