"""From the SDK's metrics to ``prometheus_client``'s families."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import isinf
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum
from prometheus_client import Metric as Family
from prometheus_client.samples import Exemplar, Sample

from tapescope_telemetry.logger import Logger
from tapescope_telemetry.names import SCOPE_NAME
from tapescope_telemetry.prometheus.exemplars import ExemplarMemory, pick_newest
from tapescope_telemetry.scrape_names import Kind, name_label, name_metric

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import (
        HistogramDataPoint,
        Metric,
        MetricsData,
        NumberDataPoint,
    )
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = ["FamilyMaker", "describe_info"]

_log = Logger("tapescope")

_TYPES: Final[Mapping[Kind, str]] = {
    "counter": "counter",
    "updowncounter": "gauge",
    "gauge": "gauge",
    "histogram": "histogram",
}


class FamilyMaker:
    """Makes families, and remembers exemplars and what it has complained of. One thread at a time.

    Metrics of the scope ``tapescope`` have no scope labels: their names are ours alone, and the
    contract's queries are written without. Those of other scopes on the same provider have
    ``otel_scope_name`` and ``otel_scope_version``, as the specification wants, so that two
    libraries may use one name.
    """

    def __init__(self) -> None:
        self._exemplars = ExemplarMemory()
        self._told: set[str] = set()

    def make(self, data: MetricsData) -> list[Family]:
        """The families of one collection, the resource as ``target_info`` first.

        What cannot be on a scrape is left out, with one warning: an exponential histogram, and a
        metric whose name another one has there already.
        """
        made: dict[str, Family] = {}
        taken: set[tuple[str, str]] = set()
        for of_resource in data.resource_metrics:
            if "target" not in made:
                resource = of_resource.resource.attributes
                made["target"] = describe_info("target", "The process that tells this.", resource)
            for of_scope in of_resource.scope_metrics:
                scope = _label_scope(of_scope.scope)
                for metric in of_scope.metrics:
                    self._add(made, taken, metric, scope)
        return list(made.values())

    def _add(
        self,
        made: dict[str, Family],
        taken: set[tuple[str, str]],
        metric: Metric,
        scope: Mapping[str, str],
    ) -> None:
        kind = _find_kind(metric.data)
        if kind is None:
            self._complain(metric.name, "its kind cannot be told on a scrape")
            return
        name = name_metric(metric.name, kind, metric.unit or "")
        family = made.get(name.family)
        place = (name.family, json.dumps(scope, sort_keys=True))
        if place in taken or (family is not None and family.type != _TYPES[kind]):
            self._complain(metric.name, f"another metric is {name.family} there")
            return
        taken.add(place)
        if family is None:
            family = Family(name.family, metric.description or "", _TYPES[kind], name.unit)
            made[name.family] = family
        if isinstance(metric.data, Histogram):
            for spread in metric.data.data_points:
                self._add_histogram(family, spread, {**_label(spread.attributes), **scope})
        elif isinstance(metric.data, Sum | Gauge):
            for point in metric.data.data_points:
                self._add_number(family, point, {**_label(point.attributes), **scope})

    def _add_number(self, family: Family, point: NumberDataPoint, labels: dict[str, str]) -> None:
        if family.type == "gauge":
            family.samples.append(Sample(family.name, labels, point.value))
            return
        place = (family.name, frozenset(labels.items()))
        exemplar = self._exemplars.recall(place, pick_newest(point.exemplars))
        name = f"{family.name}_total"
        family.samples.append(Sample(name, labels, point.value, None, exemplar))

    def _add_histogram(
        self, family: Family, point: HistogramDataPoint, labels: dict[str, str]
    ) -> None:
        bounds = point.explicit_bounds
        series = frozenset(labels.items())
        measured = {bisect_left(bounds, one.value): one for one in point.exemplars}
        name, count = f"{family.name}_bucket", 0
        for index, (bound, here) in enumerate(
            zip((*bounds, float("inf")), point.bucket_counts, strict=True)
        ):
            count += here
            exemplar: Exemplar | None = None
            if here:
                place = (family.name, series, index)
                exemplar = self._exemplars.recall(place, measured.get(index))
            bucket = {**labels, "le": "+Inf" if isinf(bound) else str(float(bound))}
            family.samples.append(Sample(name, bucket, count, None, exemplar))
        if not bounds or bounds[0] >= 0:  # OpenMetrics: with negative buckets there is no sum
            family.samples.append(Sample(f"{family.name}_count", labels, point.count))
            family.samples.append(Sample(f"{family.name}_sum", labels, point.sum))

    def _complain(self, name: str, why: str) -> None:
        if name not in self._told:
            self._told.add(name)
            _log.warning("The metric %s is not on the scrape: %s.", name, why)


def describe_info(name: str, description: str, attributes: Mapping[str, Any]) -> Family:
    """A family with the one sample ``{name}_info``, which is 1 and says something in its labels."""
    family = Family(name, description, "info")
    family.samples.append(Sample(f"{name}_info", _label(attributes), 1))
    return family


def _find_kind(data: object) -> Kind | None:
    if isinstance(data, Sum):
        return "counter" if data.is_monotonic else "updowncounter"
    if isinstance(data, Gauge):
        return "gauge"
    return "histogram" if isinstance(data, Histogram) else None


def _label_scope(scope: InstrumentationScope) -> dict[str, str]:
    if scope.name == SCOPE_NAME:
        return {}
    labels = {"otel_scope_name": scope.name}
    if scope.version:
        labels["otel_scope_version"] = scope.version
    return labels


def _label(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    """Attributes as labels; of two that become one label, both values, in the order of their keys.

    That is the specification's rule, for nothing may be lost.
    """
    labels: dict[str, str] = {}
    for key, value in _sorted(attributes):
        label = name_label(key)
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        labels[label] = f"{labels[label]};{text}" if label in labels else text
    return labels


def _sorted(attributes: Mapping[str, Any] | None) -> Iterable[tuple[str, Any]]:
    return sorted(attributes.items()) if attributes else ()
