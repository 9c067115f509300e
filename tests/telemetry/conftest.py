"""Fixtures of the telemetry tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.telemetry.recording import Recording


@pytest.fixture
def recording() -> Iterator[Recording]:
    """A telemetry on providers of its own, and what they received."""
    recording = Recording()
    yield recording
    recording.close()
