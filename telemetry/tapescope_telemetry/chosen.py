"""The global providers that ``OTEL_PYTHON_*_PROVIDER`` choose: what the API does with no setup.

The API loads such a provider when it is first asked for one, and raises where the name is of none
that is installed. What a program is for must not end for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

from opentelemetry import metrics

from tapescope_telemetry.errors import BadTelemetrySetting
from tapescope_telemetry.settings import OnProblem, Signal, hidden

__all__ = ["find_chosen", "global_meter_provider", "or_silent", "set_aside"]

T = TypeVar("T")

_KINDS: Final[Mapping[Signal, str]] = {
    "traces": "tracer_provider",
    "metrics": "meter_provider",
    "logs": "logger_provider",
}
_SILENT: Final = metrics.NoOpMeterProvider()


def or_silent(get: Callable[[], T], silent: Callable[[], T]) -> T:
    """What ``get`` gives, or what tells nobody anything where it raises. The API logs why."""
    try:
        return get()
    except Exception:  # noqa: BLE001  # an entry point may raise anything; the API has logged it
        return silent()


def global_meter_provider() -> metrics.MeterProvider:
    """The API's global meter provider; a silent one where the environment names none there is."""
    return or_silent(metrics.get_meter_provider, lambda: _SILENT)


def find_chosen(on_problem: OnProblem) -> frozenset[Signal]:
    """The signals whose global provider the environment names, other than the SDK's own.

    A name of none that is installed is told to ``on_problem``, and counts as not set.
    """
    chosen: set[Signal] = set()
    for signal, kind in _KINDS.items():
        variable = _variable(kind)
        name = os.environ.get(variable, "").strip()
        if name in ("", f"sdk_{kind}"):
            continue
        installed = _find_installed(kind)
        if name in installed:
            chosen.add(signal)
        else:
            wanted = f"the name of an installed provider: {', '.join(sorted(installed))}"
            on_problem(BadTelemetrySetting(variable, name, wanted))
    return frozenset(chosen)


@contextmanager
def set_aside(chosen: Collection[Signal]) -> Generator[None]:
    """Have the API find no provider in the environment but those of ``chosen``, inside."""
    with hidden(_variable(kind) for signal, kind in _KINDS.items() if signal not in chosen):
        yield


def _variable(kind: str) -> str:
    return f"OTEL_PYTHON_{kind.upper()}"


def _find_installed(kind: str) -> set[str]:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    return {point.name for point in entry_points(group=f"opentelemetry_{kind}")}
