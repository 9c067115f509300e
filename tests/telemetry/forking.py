"""A program that forks with a telemetry set up, and sets up another in the child."""

from __future__ import annotations

import os

from tapescope_telemetry import TelemetryUsedAfterFork, setup

ID = "0198c0de-0000-7000-8000-00000000cafe"

if __name__ == "__main__":
    first = setup()
    child = os.fork()
    if child == 0:
        try:
            first.telemetry  # noqa: B018  # to look is to use
        except TelemetryUsedAfterFork as error:
            print(type(error).__name__)
        first.shutdown()
        made, name = setup(), "child"
    else:
        os.waitpid(child, 0)
        made, name = first, "parent"
    with made.telemetry.submit_span(name, ID, "sqlite"):
        pass
    print(name, made.shutdown(), flush=True)
