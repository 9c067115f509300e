"""Fixtures of the telemetry tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.captured_telemetry import CapturedTelemetry


@pytest.fixture
def captured() -> Iterator[CapturedTelemetry]:
    """A telemetry on providers of its own, and what they received."""
    captured = CapturedTelemetry()
    yield captured
    captured.close()
