"""The plugin of pytest, in a project of a user's, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tapescope import BadSetting
from tapescope.testing import plugin
from tests.support.services import Postgres

CONFTEST = """
import pytest
from shop import ops


@pytest.fixture
def tapescope_ops():
    return ops


@pytest.fixture
def tapescope_settings():
    return {"drain": 0.0}
"""

SHOP = """
import asyncio

from tapescope import Ops, Reporter, RetryPolicy

ops = Ops()


@ops.op("resize", retry=RetryPolicy(times=1, delay=300, jitter=0))
async def resize(report: Reporter, folder: str, fails: int = 0) -> str:
    await report.progress("resize", 1, 1)
    if report.attempt <= fails:
        raise OSError("away")
    return folder


@ops.op("hang")
async def hang(report: Reporter) -> None:
    await report.log("info", "here")
    await asyncio.Event().wait()
"""

ASYNC = """
import pytest
from shop import hang, resize

from tapescope import Outcome
from tapescope.testing import TapeDiffers, assert_tape, run_op

pytestmark = {marks}


@pytest.fixture(params=["tapescope_memory", "tapescope_sqlite", "tapescope_postgres"])
def tasks(request):
    return request.getfixturevalue(request.param)


async def test_each_store(tasks):
    task = await resize.submit("photos")
    assert await task.result() == "photos"
    assert tasks.is_open


async def test_time(tapescope_memory, tapescope_clock):
    task = await resize.submit("photos", fails=1)
    await tapescope_clock.advance(301)
    assert (await task.status()).attempt == 2


async def test_eager(tapescope_eager):
    task = await resize.submit("photos", fails=1)
    assert_tape(await task.tape(), [..., "attempt_failed", ..., Outcome.SUCCEEDED])


async def test_one_function():
    assert await run_op(resize, "photos") == "photos"


async def test_that_fails(tapescope_memory):
    await resize.submit("photos")
    raise ZeroDivisionError("its own")


async def test_that_breaks_an_invariant(tapescope_memory):
    task = await resize.submit("photos")
    await task.result()
    del tapescope_memory.store.backend.find(task.task_id).tape[1]


async def test_that_leaves_a_task(tapescope_memory):
    task = await hang.submit()
    async for event in task.follow():
        if event.type == "log":
            break


class TestMethods:
    async def test_in_a_class(self, tapescope_memory):
        assert await (await resize.submit("photos")).result() == "photos"
"""

FIXTURES = """
import pytest
from shop import resize

pytestmark = {marks}


@{fixture}
async def begun(tapescope_memory):
    await tapescope_memory.open()
    return await resize.submit("photos")


async def test_a_fixture_may_open_it(begun):
    assert await begun.result() == "photos"
"""

PLAIN = """
import asyncio

import pytest
from shop import resize


def test_in_a_loop_of_its_own(tapescope_memory):
    async def main():
        async with tapescope_memory:
            return await (await resize.submit("photos")).result()

    assert asyncio.run(main()) == "photos"


def test_without_a_loop(tapescope_eager_sync):
    task = tapescope_eager_sync.submit_bound(resize.bind("photos", fails=1))
    assert task.status().attempt == 2


def test_that_closes_nothing(tapescope_memory):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(tapescope_memory.open())
    loop.run_until_complete(tapescope_memory.store.aclose())
    for one in asyncio.all_tasks(loop):
        one.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_unused(tapescope_memory, tapescope_sqlite, tapescope_eager, tapescope_eager_sync):
    pass
"""

SETTINGS = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

LOADED = """
import sys


def test_what_is_loaded():
    ours = {name for name in sys.modules if name.startswith(("tapescope", "opentelemetry"))}
    assert ours == {"tapescope", "tapescope.testing", "tapescope.testing.plugin"}
"""

ASYNCIO = "[pytest.mark.asyncio]"
ANYIO = "[pytest.mark.anyio]"
FAILED = {"test_that_fails", "test_that_breaks_an_invariant", "test_that_leaves_a_task"}


class Project:
    """A user's project with tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("conftest.py", CONFTEST)
        self.write("shop.py", SHOP)
        self.write("pytest.ini", SETTINGS)

    def write(self, name: str, text: str) -> None:
        """A file of the project."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, *options: str, **variables: str) -> tuple[dict[str, set[str]], str]:
        """Run its tests; gives the names of the tests by their outcome, and all that was said."""
        if "no:asyncio" in options:  # it would not know its setting
            self.write("pytest.ini", SETTINGS.replace("asyncio_", "# "))
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST")
        }
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options],
            cwd=self.folder,
            env=environment | {"NO_COLOR": "1", "COLUMNS": "200"} | variables,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        found: dict[str, set[str]] = {}
        pattern = r"^(PASSED|FAILED|ERROR|SKIPPED) \S*?::(?:\w+::)?(\w+)"
        for outcome, name in re.findall(pattern, done.stdout, re.MULTILINE):
            found.setdefault(outcome, set()).add(name)
        assert "INTERNALERROR" not in done.stdout + done.stderr
        return found, done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of a user's."""
    return Project(tmp_path)


def judge_async_tests(found: dict[str, set[str]], said: str) -> None:
    """What becomes of the tests of ``ASYNC``, whichever plugin runs them."""
    assert found["FAILED"] == FAILED
    assert "ERROR" not in found
    assert found["PASSED"] >= {"test_each_store", "test_time", "test_eager", "test_one_function"}
    assert "test_in_a_class" in found["PASSED"]
    assert re.search(
        r"HistoryBroken: I3 of .*\nE +I6 of .* acknowledged event 2 \(progress\)", said
    )
    assert re.search(r"TasksLeft: 1 task still ran .*\n.*hang \S+, attempt 1", said)
    assert "ZeroDivisionError: its own" in said


def test_a_project_with_two_plugins_in_strict_mode(project: Project) -> None:
    """Tests of pytest-asyncio, of anyio and of neither, in one run; a server is not asked for."""
    project.write("test_asyncio.py", ASYNC.format(marks=ASYNCIO))
    project.write("test_plain.py", PLAIN)
    text = FIXTURES.format(marks=ANYIO, fixture="pytest.fixture")
    backend = "\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    project.write("test_anyio.py", text + backend)
    found, said = project.run()

    errors = found.pop("ERROR")
    found["PASSED"] -= {"test_that_closes_nothing"}
    judge_async_tests(found, said)
    assert errors == {"test_that_closes_nothing"}
    assert "was opened and not closed" in said
    assert "no PostgreSQL: set tapescope_postgres_url" in said
    assert found["PASSED"] >= {
        "test_a_fixture_may_open_it",
        "test_in_a_loop_of_its_own",
        "test_without_a_loop",
        "test_unused",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "marks", "fixture"),
    [
        (["-o", "asyncio_mode=auto", "-p", "no:anyio"], "[]", "pytest.fixture"),
        (["-p", "no:anyio"], ASYNCIO, "__import__('pytest_asyncio').fixture"),
        (
            [
                "-o",
                "asyncio_default_test_loop_scope=session",
                "-o",
                "asyncio_default_fixture_loop_scope=session",
            ],
            ASYNCIO,
            "__import__('pytest_asyncio').fixture",
        ),
        (["-p", "no:asyncio"], ANYIO, "pytest.fixture"),
    ],
    ids=["auto", "strict", "session", "anyio"],
)
def test_a_project_with_one_plugin(
    project: Project, options: list[str], marks: str, fixture: str
) -> None:
    """Whichever it is, a manager is open in the loop of the test, and judged at its end."""
    backend = "\n\n@pytest.fixture(scope='session')\ndef anyio_backend():\n    return 'asyncio'\n"
    project.write("conftest.py", CONFTEST + backend)
    project.write("test_async.py", ASYNC.format(marks=marks))
    project.write("test_fixtures.py", FIXTURES.format(marks=marks, fixture=fixture))
    found, said = project.run(*options)

    judge_async_tests(found, said)
    assert "test_a_fixture_may_open_it" in found["PASSED"]


@pytest.mark.slow
def test_pytest_alone(project: Project) -> None:
    """Plain tests need no other plugin, and pay for nothing that they do not use."""
    project.write("test_plain.py", PLAIN)
    found, _ = project.run("-p", "no:anyio", "-p", "no:asyncio")
    loaded = project.folder / "loaded"
    loaded.mkdir()
    other = Project(loaded)
    (loaded / "conftest.py").unlink()
    other.write("test_loaded.py", LOADED)
    alone, said = other.run("-p", "no:anyio", "-p", "no:asyncio")

    assert found["ERROR"] == {"test_that_closes_nothing"}
    assert found["PASSED"] >= {"test_in_a_loop_of_its_own", "test_without_a_loop", "test_unused"}
    assert alone == {"PASSED": {"test_what_is_loaded"}}, said


@pytest.mark.slow
def test_a_server_of_the_users(project: Project, postgres_server: Postgres) -> None:
    """Each worker of xdist has a schema of its own, which is emptied before each test."""
    url = re.sub(r"[?&]schema=[^&]*", "", postgres_server.url())
    text = ASYNC.format(marks=ASYNCIO)
    again = text[text.index("async def test_each_store") : text.index("async def test_time")]
    for number in range(3):
        text += again.replace("test_each_store", f"test_again_{number}")
    project.write("test_async.py", text)
    found, said = project.run("-n", "2", TAPESCOPE_TEST_POSTGRES_URL=url)
    alone, _ = project.run("-k", "test_each_store", "-o", f"tapescope_postgres_url={url}")

    judge_async_tests(found, said)
    assert "SKIPPED" not in found
    assert alone == {"PASSED": {"test_each_store"}}


@pytest.mark.parametrize(
    ("url", "worker", "named"),
    [
        ("postgresql://app@host/shop", "", "postgresql://app@host/shop?schema=tapescope_test"),
        (
            "postgresql://h/s?patience=3",
            "gw1",
            "postgresql://h/s?patience=3&schema=tapescope_test_gw1",
        ),
        ("postgresql://h/s?schema=test_mine", "gw0", "postgresql://h/s?schema=test_mine_gw0"),
    ],
)
def test_the_schema_of_a_server_is_a_tests(url: str, worker: str, named: str) -> None:
    """Its name says so, and it is one worker's."""
    assert plugin.name_schema(url, worker) == named


def test_a_schema_that_may_be_somebodys_is_refused() -> None:
    """What is in it would be deleted."""
    with pytest.raises(BadSetting, match="'test' in its name"):
        plugin.name_schema("postgresql://h/s?schema=shop", "")
