"""Fixtures of the telemetry tests."""

from __future__ import annotations
