"""What a metric and its attributes are called on a Prometheus scrape.

The rules are those of the OpenTelemetry specification ("Prometheus and OpenMetrics compatibility"):
a unit becomes a suffix in words, a counter ends in ``_total``, dots become underscores. Pure text:
the reference page is made with it, and needs no SDK.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

__all__ = ["Kind", "ScrapeName", "name_label", "name_metric"]

Kind = Literal["counter", "updowncounter", "histogram", "gauge"]

_UNITS: Final = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "kBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
}
_PER: Final = {
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "wk": "week",
    "mo": "month",
    "a": "year",
}
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")
_NOT_IN_A_METRIC: Final = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_A_LABEL: Final = re.compile(r"[^a-zA-Z0-9]+")


class ScrapeName(NamedTuple):
    """A metric's names on the scrape."""

    family: str
    """As ``# TYPE`` of OpenMetrics has it: with the unit, without ``_total``."""
    unit: str
    """The unit in words; empty where it has none."""
    query: str
    """What a query names: a counter's ``_total``; a histogram's is the family, to be suffixed."""


def name_metric(name: str, kind: Kind, unit: str) -> ScrapeName:
    """The names of an OpenTelemetry metric with this UCUM unit."""
    word = _describe_unit(unit, kind)
    family = _clean(name, _NOT_IN_A_METRIC).removesuffix("_total")  # a counter's alone, and added
    if word and not family.endswith(f"_{word}"):
        family = f"{family}_{word}"
    return ScrapeName(family, word, f"{family}_total" if kind == "counter" else family)


def name_label(key: str) -> str:
    """The label of an attribute."""
    return _clean(key, _NOT_IN_A_LABEL)


def _describe_unit(unit: str, kind: Kind) -> str:
    if unit == "1":
        return "ratio" if kind == "gauge" else ""
    of, slash, per = _ANNOTATION.sub("", unit).strip().partition("/")
    word = _UNITS.get(of, _clean(of, _NOT_IN_A_LABEL)) if of else ""
    if not slash or not per:
        return word
    return f"{word}_per_{_PER.get(per, _clean(per, _NOT_IN_A_LABEL))}".lstrip("_")


def _clean(text: str, refused: re.Pattern[str]) -> str:
    cleaned = refused.sub("_", text)
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned
