"""The conformance suite: whole, runnable by others, and not to be passed by a store that errs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

from tapescope.testing import conformance
from tapescope.testing.conformance import StoreConformance, StoreSuite

WRONG_STORES = """
import pytest

from tapescope.testing import MemoryBackend
from tapescope.testing.conformance import StoreConformance


class Forgetful(MemoryBackend):
    async def write(self, flush):
        answer = await super().write(flush)
        for row in answer.refused:
            self.quarantine.correct(flush.sources[row.row].task_id, row.reason, 0)
        return answer


class Deaf(MemoryBackend):
    async def extend_leases(self, owner, lease, task_ids):
        held = await super().extend_leases(owner, lease, task_ids)
        return [one._replace(cancel=None) for one in held]


class Backward(MemoryBackend):
    async def claim_due(self, order):
        return list(reversed(await super().claim_due(order)))


class TestRight(StoreConformance):
    @pytest.fixture
    def make_backend(self):
        return MemoryBackend


class TestForgetful(StoreConformance):
    @pytest.fixture
    def make_backend(self):
        return Forgetful


class TestDeaf(StoreConformance):
    @pytest.fixture
    def make_backend(self):
        return Deaf


class TestBackward(StoreConformance):
    @pytest.fixture
    def make_backend(self):
        return Backward
"""

CHOSEN = "heartbeat_carries or longest_due or after_terminal_dropped or malformed"
"""Some tests of the suite: all of it, on four stores, would take a minute."""

WITHOUT = """
import sys
sys.modules[{missing!r}] = None
import tapescope.testing
assert "pytest" not in sys.modules or {missing!r} == "pytest"
from tapescope.errors import MissingExtra
try:
    import tapescope.testing.conformance
except MissingExtra as error:
    print(error)
"""


def list_topics() -> dict[str, list[type[StoreSuite]]]:
    """The topics that each module of the suite defines."""
    topics: dict[str, list[type[StoreSuite]]] = {}
    for module in iter_modules(conformance.__path__):
        name = f"{conformance.__name__}.{module.name}"
        members: list[Any] = list(vars(import_module(name)).values())
        topics[module.name] = [
            member
            for member in members
            if isinstance(member, type)
            and issubclass(member, StoreSuite)
            and member.__module__ == name
            and member is not StoreSuite
        ]
    return topics


def test_suite_has_every_topic() -> None:
    """A topic that a module defines is one of the suite's, and the door has its name."""
    topics = list_topics()
    defined = {topic for of_module in topics.values() for topic in of_module}

    assert defined == set(StoreConformance.__bases__)
    assert {topic.__name__ for topic in defined} <= set(conformance.__all__)
    assert [name for name, of_module in topics.items() if not of_module] == ["suite"]


def test_no_topic_hides_a_test_of_another() -> None:
    """Each test has a name of its own, so that the suite has them all."""
    names = Counter(
        name
        for topic in StoreConformance.__bases__
        for name in vars(topic)
        if name.startswith("test_")
    )

    assert sum(names.values()) > 100
    assert [name for name, times in names.items() if times > 1] == []


def test_asserts_of_every_module_explain_themselves() -> None:
    """Pytest rewrites each module of the suite, so a failed test shows what it compared."""
    for name in list_topics():
        loader: Any = import_module(f"{conformance.__name__}.{name}").__loader__
        assert type(loader).__name__ == "AssertionRewritingHook", name


@pytest.mark.parametrize("missing", ["pytest", "pytest_asyncio"])
def test_import_without_pytest_says_what_to_install(missing: str) -> None:
    """``tapescope.testing`` needs neither; the suite names the line that brings them."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == (
        "The conformance suite needs more packages: pip install 'tapescope[conformance]'"
    )


def test_stores_that_err_are_found_out(tmp_path: Path) -> None:
    """In a project of its own, in pytest-asyncio's strict mode: each fault fails its tests."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    (tmp_path / "test_wrong_stores.py").write_text(WRONG_STORES)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "-k", CHOSEN],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S+::(Test\w+)::(\w+)", done.stdout, re.MULTILINE))
    by_store = {name: {test for of, test in failed if of == name} for name, _ in failed}

    assert by_store == {
        "TestForgetful": {"test_append_after_terminal_dropped_keeping_final_last"},
        "TestDeaf": {"test_heartbeat_carries_cancels_and_lost_leases"},
        "TestBackward": {
            "test_due_tasks_are_claimed_the_longest_due_first",
            "test_a_claim_goes_on_with_the_longest_due_of_the_next_priority",
        },
    }, done.stdout
    assert "Breach(invariant='I7'" in done.stdout
    assert "passed" in done.stdout
