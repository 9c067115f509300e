"""The values of callers, on their way into a store and back: as JSON, or by a codec that is set.

A store keeps JSON alone. What a codec made of a value stands there in an object of its own, with
the codec's name: so each process can tell it from a value that was JSON by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final, Protocol

from tapescope.codec import decode, encode
from tapescope.errors import BadParams, BadSetting, CodecFailed, CodecMissing, NotJson
from tapescope.model.tasks import is_op
from tapescope_telemetry.failures import error_type_of, text_of

__all__ = ["Codec", "Values"]

_CODEC: Final = "$codec"
_VALUE: Final = "value"
"""Both are the members of a stored value that a codec encoded."""


class Codec(Protocol):
    """Carries values that JSON cannot, or that the store is not to see: ``TaskManager(codec=…)``.

    Both methods are called in the event loop, and for a ``ThreadReporter`` in the runner's thread:
    they are quick, and wait for nothing. What they raise is a ``CodecFailed``.
    """

    @property
    def name(self) -> str:
        """Stands beside each encoded value in the store: made as the name of an op is.

        Keep it as long as ``decode`` can read what was stored under it.
        """
        ...

    def encode(self, value: Any, /) -> Any:
        """The value as JSON; what it gives back unchanged is stored as it is."""
        ...

    def decode(self, stored: Any, /) -> Any:
        """The value that ``encode`` was given, of what it made of it."""
        ...


class Values:
    """What a manager does with the values that it is given: all of them, one by one.

    They are the value of each param, a runner's result, and what its reporter is given as "any JSON
    value". Names, texts of errors and lines of a log are not.
    """

    __slots__ = ("_codec", "_name")

    def __init__(self, codec: Codec | None = None) -> None:
        """Raises ``BadSetting`` for what is not a codec."""
        self._codec = codec
        self._name: str | None = None
        if codec is not None:
            name = getattr(codec, "name", None)
            methods = (getattr(codec, "encode", None), getattr(codec, "decode", None))
            if not is_op(name) or not all(map(callable, methods)):
                expected = "an object with encode, decode and a name such as 'rich-types'"
                raise BadSetting("codec", codec, expected)
            self._name = str(name)

    @property
    def has_codec(self) -> bool:
        """Whether a codec is set."""
        return self._codec is not None

    def encode(self, value: Any, what: str) -> Any:
        """What is stored; ``what`` names the value in an error.

        Without a codec it is the value, which the store checks. Raises ``CodecFailed``, and
        ``NotJson`` for a value that would be taken for an encoded one.
        """
        codec, name = self._codec, self._name
        if codec is None or name is None:
            if _is_encoded(value):
                why = f"its members are {_CODEC!r} and {_VALUE!r}, as those of an encoded value"
                raise NotJson(what, why)
            return value
        try:
            encoded = codec.encode(value)
        except BaseException as error:  # also what would end the process: it is the value's refusal
            raise CodecFailed(name, "encode", what, _explain(error)) from error
        try:
            text = encode(encoded, what)
        except NotJson as error:
            why = f"it made a value that is not JSON: {error.why}"
            raise CodecFailed(name, "encode", what, why) from error
        encoded = decode(text)
        if not _is_encoded(encoded) and _is_json(value, text):
            return encoded
        return {_CODEC: name, _VALUE: encoded}

    def encode_params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params, each value as it is stored. Raises ``BadParams``, ``CodecFailed``."""
        if self._codec is None and not any(map(_is_encoded, params.values())):
            return params  # the usual case, decided at once
        try:
            return {name: self.encode(value, _param(name)) for name, value in params.items()}
        except NotJson as error:
            raise BadParams(f"the {error.what}: {error.why}") from error

    def decode(self, stored: Any, what: str) -> Any:
        """The value that was stored so. Raises ``CodecMissing``, ``CodecFailed``."""
        if not _is_encoded(stored):
            return stored
        if self._codec is None or stored[_CODEC] != self._name:
            raise CodecMissing(what, str(stored[_CODEC]), self._name)
        copy = deepcopy(stored[_VALUE])  # others read what was stored, too
        try:
            return self._codec.decode(copy)
        except BaseException as error:  # as above
            raise CodecFailed(str(self._name), "decode", what, _explain(error)) from error

    def decode_params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The params of a runner. Raises ``CodecMissing``, ``CodecFailed``."""
        if not any(map(_is_encoded, params.values())):
            return params  # as above
        return {name: self.decode(stored, _param(name)) for name, stored in params.items()}


def _param(name: str) -> str:
    return f"param {name!r}"


def _is_encoded(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 2 and _CODEC in value and _VALUE in value  # pyright: ignore[reportUnknownArgumentType]  # a dict of anything


def _is_json(value: object, text: str) -> bool:
    """Whether the value is JSON by itself, and this is its text."""
    try:
        return encode(value, "value") == text
    except NotJson:
        return False


def _explain(error: BaseException) -> str:
    return f"{error_type_of(error)}: {text_of(error)}".rstrip(": ")
