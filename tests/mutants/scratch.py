"""A copy of the tree in which guards are removed and tests are run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

__all__ = ["Scratch", "Verdict", "running_scratch"]

_ROOMS: Final = ("platform", "adapters", "telemetry")
_ONE_TEST: Final = 60
"""Seconds that one test may take: a mutant may wait for ever, and has failed then."""
_ALL_TESTS: Final = 240
"""Seconds that the tests of one mutant may take together."""
_LEAVE: Final = 20
"""Seconds that pytest has to end its servers when it is interrupted."""

Verdict = Literal["passed", "failed", "broken"]
"""``broken``: pytest could not run the tests, or not in time, so that they say nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the tests said."""

    verdict: Verdict
    test: str
    """The first that failed, as pytest names it; else empty."""
    output: str


class Scratch:
    """The copy. One guard is removed in it at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._tree, self._folder = root, folder / "tree", folder
        self._edits = 0
        self._process: subprocess.Popen[bytes] | None = None
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.split(b"\0")
        for name in filter(None, map(os.fsdecode, names)):
            if (root / name).is_file():  # else it was deleted, and that is not committed
                target = self._tree / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, target)

    def run(
        self, tests: Sequence[str], texts: Mapping[str, str], *, but: str = "", stop: bool
    ) -> Run:
        """Run these tests with these files in place of the tree's; ``stop`` at a failure.

        ``but`` is an expression of pytest's ``-k``: these are left out.
        """
        kept = {name: (self._tree / name).read_text(encoding="utf-8") for name in texts}
        try:
            for name, text in texts.items():
                self._write(name, text)
            return self._run(tests, but, stop=stop)
        finally:
            for name, text in kept.items():
                self._write(name, text)

    def stop(self) -> None:
        """End the tests that run, from another thread, with their servers."""
        if (process := self._process) is not None:
            process.send_signal(signal.SIGINT)

    def _write(self, name: str, text: str) -> None:
        """Write a file with a time of its own: Python takes a cached module of the same time."""
        self._edits += 1
        file = self._tree / name
        file.write_text(text, encoding="utf-8")
        moment = 1_000_000_000 + self._edits
        os.utime(file, (moment, moment))

    def _run(self, tests: Sequence[str], but: str, *, stop: bool) -> Run:
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        command = (
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", "--tb=line", "--color=no"),
            *("-p", "no:cacheprovider", f"--timeout={_ONE_TEST}", f"--junitxml={report}"),
            *("--basetemp", str(self._folder / "t"), *(["-x"] if stop else [])),
            *(["-k", f"not ({but})"] if but else []),
            *tests,
        )
        places = os.pathsep.join(str(self._tree / room) for room in _ROOMS)
        environment = os.environ | {"PYTHONPATH": places, "PYTHONSAFEPATH": ""}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # most modules are as they were
        with subprocess.Popen(
            command,
            cwd=self._tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                output, _ = process.communicate(timeout=_ALL_TESTS if stop else None)
            except subprocess.TimeoutExpired:
                return Run("broken", "", _end(process))
            finally:
                self._process = None
        text = output.decode(errors="replace")
        if process.returncode == 0:
            return Run("passed", "", text)
        test = _find_failed(report) if process.returncode == 1 else ""
        return Run("failed" if test else "broken", test, text)


def _end(process: subprocess.Popen[bytes]) -> str:
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=_LEAVE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return output.decode(errors="replace")


def _find_failed(report: Path) -> str:
    """The first test that failed, or whose fixtures did; empty where a module was not imported."""
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            module = case.get("classname", "")
            return f"{module}::{case.get('name')}" if module else ""
    return ""


@contextmanager
def running_scratch(root: Path) -> Generator[Scratch]:
    """A copy of the tree, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tapes-mut-", ignore_cleanup_errors=True) as folder:
        yield Scratch(root, Path(folder))
