"""Where a trace is shown by a tool for traces: a template of its URL, which who serves names."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from tapescope.errors import BadSetting
from tapescope.model.addresses import is_link

__all__ = ["check_trace_url", "fill_trace_url"]

_TRACE: Final = "{trace_id}"
_SPAN: Final = "{span_id}"
_MOST: Final = 2_048
"""Characters: what browsers and proxies take."""


def check_trace_url(name: str, template: str) -> str:
    """The template, if it is one: a URL of http or https with ``{trace_id}`` in it, and perhaps
    ``{span_id}``. Raises ``BadSetting``, by this name of the setting."""
    left = template.replace(_TRACE, "").replace(_SPAN, "")
    sound = _TRACE in template and len(template) <= _MOST and not set(left) & set("{}")
    if not (sound and is_link(template)):
        raise BadSetting(
            name,
            template,
            "a URL of http or https with {trace_id} in it, and {span_id} where the tool takes one, "
            "as in https://traces.example/trace/{trace_id}",
        )
    return template


def fill_trace_url(template: str, trace_id: str, span_id: str = "") -> str:
    """The URL of a trace, or of a span in it; ids as a store has them, quoted."""
    named = template.replace(_TRACE, quote(trace_id, safe=""))
    return named.replace(_SPAN, quote(span_id, safe=""))
