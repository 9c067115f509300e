"""Parameters of a store's URL that every store has."""

from __future__ import annotations

import pytest

from tapescope import BadStoreUrl, find_store

URLS = ["sqlite:///tasks.db", "postgresql://app@db/shop"]


@pytest.mark.parametrize("url", URLS)
def test_url_says_how_much_a_tape_takes(url: str) -> None:
    """The limit of a tape is the URL's; without one it is the store's own."""
    limits = find_store(f"{url}?tape_events=250000&patience=3").limits
    usual = find_store(url).limits

    assert limits.tape_events == 250_000
    assert usual.tape_events == 100_000
    assert limits.batch == usual.batch


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("value", ["0", "-1", "many", "1e5", ""])
def test_limit_that_is_no_number_is_refused(url: str, value: str) -> None:
    """A mistake in the URL is told when the store is made."""
    with pytest.raises(BadStoreUrl, match="tape_events is a number of events over 0"):
        find_store(f"{url}?tape_events={value}")
