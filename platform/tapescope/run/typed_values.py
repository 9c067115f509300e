"""The values of an op that JSON cannot carry by itself, stored as its runner's annotations say.

Types stand nearest to the runner: what it is given was decoded by the codec before, and what it
returns goes to the redaction hook and the codec as JSON (docs/decisions/0063). The work is
msgspec's; a model of pydantic is dumped and validated by itself. An annotation that JSON carries
is not looked at, nor one that msgspec does not know, or that cannot be resolved: those values go as
they are, and the store refuses what is not JSON.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast, get_type_hints

from tapescope.errors import BadParams, NotOfType
from tapescope_telemetry.failures import error_type_of, text_of
from tapescope_telemetry.logger import Logger

__all__ = ["TypedValues"]

_log = Logger("tapescope")

_PLAIN: Final = (Any, None, type(None), str, int, float, bool, list, dict, inspect.Signature.empty)
"""Annotations that need no look at their parts."""
_AS_JSON: Final = frozenset(
    {"AnyType", "NoneType", "BoolType", "IntType", "FloatType", "StrType", "LiteralType"}
    | {"ListType", "UnionType", "TypedDictType", "Metadata"}
)
"""The kinds that JSON carries, if it carries their parts; a ``DictType`` does with keys of text."""
_RESULT: Final = "return"


class TypedValues:
    """What a runner's annotations say of its params and of its result.

    They are read at the first use: a class may stand below the function that names it.
    """

    def __init__(self, function: Callable[..., Any], *, given: int = 1) -> None:
        """``given`` is how many of its parameters are no params of a task's."""
        self._function, self._given = function, given

    @property
    def has_result(self) -> bool:
        """Whether a result is more than JSON."""
        return _RESULT in self._types

    def encode_params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params as JSON has them. Raises ``BadParams`` for one that is not of its type."""
        return self._each(params, _encode)

    def decode_params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params as the runner is to have them. Raises ``BadParams``."""
        return self._each(params, _decode)

    def encode_result(self, result: Any) -> Any:
        """The result as JSON has it. Raises ``NotOfType`` where it could not be read back."""
        kind = self._types.get(_RESULT)
        return result if kind is None else _encode(result, kind, "result")

    def decode_result(self, stored: Any) -> Any:
        """What the runner returned. Raises ``NotOfType``."""
        kind = self._types.get(_RESULT)
        return stored if kind is None else _decode(stored, kind, "result")

    @functools.cached_property
    def _types(self) -> Mapping[str, Any]:
        """By its name the annotation of each param that is more than JSON."""
        return {name: kind for name, kind in self._read() if _is_rich(kind)}

    def _read(self) -> Iterator[tuple[str, Any]]:
        return _read_annotations(self._function, self._given)

    def _each(
        self, params: Mapping[str, Any], convert: Callable[[Any, Any, str], Any]
    ) -> Mapping[str, Any]:
        kinds = self._types
        if kinds.keys().isdisjoint(params):
            return params
        converted = dict(params)
        for name in kinds.keys() & params.keys():
            try:
                converted[name] = convert(params[name], kinds[name], f"param {name!r}")
            except NotOfType as error:
                raise BadParams(f"the {error.what} is not of its type: {error.why}") from error
        return converted


def _encode(value: Any, kind: Any, what: str) -> Any:
    import msgspec

    try:
        stored = msgspec.to_builtins(
            value, str_keys=True, enc_hook=_dump_model, order="deterministic"
        )
        _convert(stored, kind)  # a value of another type is refused here, not by who reads it
    except BaseException as error:  # also what would end the process: it is the value's refusal
        raise NotOfType(what, _name_of(kind), _explain(error)) from error
    return stored


def _decode(stored: Any, kind: Any, what: str) -> Any:
    try:
        return _convert(stored, kind)
    except BaseException as error:  # as above
        raise NotOfType(what, _name_of(kind), _explain(error)) from error


def _convert(stored: Any, kind: Any) -> Any:
    import msgspec

    return msgspec.convert(stored, kind, str_keys=True, dec_hook=_load_model)


def _dump_model(value: Any) -> Any:
    kind = cast("type[object]", type(value))
    if not _is_model(kind):
        raise TypeError(f"it holds a value of the type {kind.__name__!r}")
    return value.model_dump(mode="json", by_alias=True, round_trip=True)


def _load_model(kind: Any, stored: Any) -> Any:
    return kind.model_validate(stored)


def _is_model(kind: object) -> bool:
    """Whether it is a model of pydantic, which is imported by then."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and inspect.isclass(kind) and issubclass(kind, pydantic.BaseModel)


def _read_annotations(function: Callable[..., Any], given: int) -> Iterator[tuple[str, Any]]:
    """Each name with its annotation, left out those of the reporter and of a resource."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001  # a builtin has none, and an object may raise anything
        return
    body = function
    while isinstance(body, functools.partial):
        body = body.func
    body = getattr(body, "__func__", body)
    if not inspect.isfunction(body):
        body = type(body).__call__
    own = getattr(body, "__globals__", {})
    others = list(signature.parameters.values())[given:]
    named = {
        one.name: one.annotation
        for one in others
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }
    for name, annotation in (named | {_RESULT: signature.return_annotation}).items():
        if annotation in _PLAIN:
            continue
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            near = inspect.getclosurevars(body).nonlocals
            (kind,) = get_type_hints(alone, dict(own), dict(near), include_extras=True).values()
        except Exception as error:  # noqa: BLE001  # a name for type checkers alone: it is as if there was none
            text = "The annotation %r of %r cannot be resolved (%s): its values go as they are."
            _log.debug(text, annotation, name, text_of(error))
        else:
            yield name, kind


def _is_rich(kind: Any) -> bool:
    """Whether its values are more than JSON, and can be converted."""
    if kind in _PLAIN:
        return False
    import msgspec.inspect

    try:
        waiting: list[Any] = [msgspec.inspect.type_info(kind)]
    except Exception as error:  # noqa: BLE001  # an annotation may be anything
        _log.debug("Values of %r go as they are: %s", kind, text_of(error))
        return False
    rich, seen = False, set[int]()
    for part in waiting:
        if id(part) in seen:
            continue
        seen.add(id(part))
        word = type(part).__name__
        if word in ("ExtType", "RawType") or (word == "CustomType" and not _is_model(part.cls)):
            return False
        as_json = word in _AS_JSON or (word == "DictType" and _is_text(part.key_type))
        rich = rich or not as_json
        waiting += _list_parts(part)
    return rich


def _is_text(key: Any) -> bool:
    return type(key).__name__ in ("StrType", "AnyType")


def _list_parts(part: Any) -> Iterator[Any]:
    """The types that a type of msgspec's is made of."""
    import msgspec.inspect

    waiting: list[Any] = [getattr(part, name) for name in part.__struct_fields__]
    for one in waiting:
        if isinstance(one, tuple):
            waiting.extend(cast("Any", one))
        elif isinstance(one, msgspec.inspect.Field):
            yield one.type
        elif isinstance(one, msgspec.inspect.Type):
            yield one


def _name_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if inspect.isclass(kind) else str(kind)


def _explain(error: BaseException) -> str:
    text = text_of(error)
    return text if type(error).__module__ == "msgspec" else f"{error_type_of(error)}: {text}"
