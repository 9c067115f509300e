"""``tapescope serve`` as a process, for what is measured from outside."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["serving"]


@contextmanager
def serving(store: str, folder: Path) -> Generator[str]:
    """Serve a store that is there, on a free port, with the log in the folder; gives the URL."""
    log = folder / "server.log"
    with log.open("wb") as lines:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("tapescope"), "serve", "--store", store, "--port", "0"],
            stderr=lines,
            stdout=subprocess.DEVNULL,
        )
    try:
        while (url := re.search(r"http://[0-9.]+:[0-9]+", log.read_text(encoding="utf-8"))) is None:
            if server.poll() is not None:
                sys.exit(log.read_text(encoding="utf-8"))
            time.sleep(0.05)
        yield url[0]
    finally:
        server.terminate()
        server.wait(30)
