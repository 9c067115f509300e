"""A sampler that lets a run follow its submit: both are recorded, or neither is."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from tapescope.model import LinkKind
from tapescope_telemetry.names import Attribute

__all__ = ["LinkSampler"]


class LinkSampler(Sampler):
    """Samples the run of a task as the submit that it is linked to; the rest is ``inner``'s.

    A run is a root of its own, so a parent-based sampler decides it anew, and most links of a
    sampled run lead to a submit that nobody recorded. This one decides for spans that have a
    ``tapescope.task.id``, a link, and no parent: by the link to the submit, else by the first one.
    It can only be asked when a span begins (head sampling): what a collector drops later is dropped
    by trace, and a run is another trace than its submit.

    ``setup`` has it around the parent-based samplers. For providers of your own:
    ``TracerProvider(sampler=LinkSampler(ParentBased(TraceIdRatioBased(0.2))))``.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide as for the span that is linked; without one as ``inner`` does."""
        if links and attributes and Attribute.TASK_ID in attributes:
            linked = _find_decisive(links)
            if linked.is_valid and not get_current_span(parent_context).get_span_context().is_valid:
                if linked.trace_flags.sampled:
                    return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
                return SamplingResult(Decision.DROP)
        return self._inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """``LinkSampler{inner}``."""
        return f"LinkSampler{{{self._inner.get_description()}}}"


def _find_decisive(links: Sequence[Link]) -> SpanContext:
    for link in links:
        if (link.attributes or {}).get(Attribute.LINK) == LinkKind.SUBMIT:
            return link.context
    return links[0].context
