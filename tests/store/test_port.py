"""``TaskStore``: what it is made with."""

from __future__ import annotations

import pytest

from tapescope.store.lookup import find_store


@pytest.mark.parametrize("name", ["backend", "name", "telemetry", "clock", "limits", "patience"])
def test_a_setting_is_given_once(name: str, sqlite_url: str) -> None:
    """The parts of a store have its settings, too: one that is set later would reach none."""
    store = find_store(sqlite_url)

    with pytest.raises(AttributeError):
        setattr(store, name, getattr(store, name))


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
@pytest.mark.parametrize(("parameter", "expected"), [("", 3), ("patience=20", 20)])
def test_the_patience_of_a_url_goes_first(
    kind: str, parameter: str, expected: float, request: pytest.FixtureRequest
) -> None:
    """What the URL says goes before what who opens the store asks for."""
    url: str = request.getfixturevalue(kind)
    joined = f"{url}{'&' if '?' in url else '?'}{parameter}" if parameter else url
    store = find_store(joined, patience=3)

    assert store.patience == expected
