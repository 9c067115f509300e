"""The reference pages are what the code says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from docs.build import REFERENCE, make_pages
from tapescope.model import (
    ERROR_CODES,
    EVENT_TYPES,
    AttemptOutcome,
    AuditRule,
    CancelReason,
    DropReason,
    Outcome,
)
from tapescope_telemetry import METRICS, SPANS
from tapescope_telemetry.names import SERVER_METRICS, Attribute
from tapescope_telemetry.vocabulary import ATTRIBUTES, CICD_RESULTS, RUN_OUTCOMES
from tests.support.scrapes import SCRAPE_NAMES


@pytest.mark.parametrize("name", make_pages())
def test_pages_are_up_to_date(name: str) -> None:
    """Made again, a page is byte for byte what is committed; else ``make docs`` was forgotten."""
    assert (REFERENCE / name).read_bytes() == make_pages()[name].encode()


def test_every_attribute_is_described() -> None:
    """The vocabulary has each attribute of the contract's tables, and no other."""
    rows = (*METRICS, *SERVER_METRICS, *SPANS)
    used = {key for row in rows for key in (*row.attributes, *row.optional)}

    assert ATTRIBUTES.keys() == used | {Attribute.LINK}  # of links


def test_the_page_has_every_scrape_name() -> None:
    """What a query may name is on the page."""
    page = make_pages()["metrics.md"]

    assert [name for _, name in SCRAPE_NAMES.values() if f"`{name}`" not in page] == []


def test_every_way_a_run_ends_has_its_sentence() -> None:
    """The page of spans has each outcome of an attempt once, and a result for each of a task."""
    assert [one.outcome for one in RUN_OUTCOMES] == list(AttemptOutcome)
    assert {outcome for outcome, _, _ in CICD_RESULTS} == set(Outcome)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("explanation/tape.md", EVENT_TYPES),
        ("explanation/tape.md", DropReason),
        ("explanation/tape.md", AttemptOutcome),
        ("explanation/tape.md", CancelReason),
        ("explanation/tape.md", ERROR_CODES),
        ("howto/audit.md", AuditRule),
    ],
    ids=["event types", "drop reasons", "outcomes", "cancel reasons", "error codes", "audit rules"],
)
def test_every_word_is_explained(page: str, words: Iterable[str]) -> None:
    """A word of the model that a user meets stands on the page that explains its kind."""
    text = (REFERENCE.parent / page).read_text(encoding="utf-8")

    assert [str(word) for word in words if f"`{word}`" not in text] == []
