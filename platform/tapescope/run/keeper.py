"""From what a runner says to what is stored: the redaction hook is asked, then the codec encodes.

In this order the hook has the value before it, not what a codec made of it, and no codec is ever
given what the hook takes away: it may seal, or put a value elsewhere (docs/decisions/0049).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from tapescope.codec import decode, encode
from tapescope.errors import CodecFailed, NotJson
from tapescope.model.messages import Message
from tapescope.model.redaction import NOT_REDACTED, Telling, ToldKind
from tapescope.model.tape import MESSAGE_TAKEN
from tapescope.values import Values

if TYPE_CHECKING:
    from tapescope.run.redaction import Redactor

__all__ = ["Keeper", "RedactedBody"]

_SCALARS: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class RedactedBody:
    """The body of an event as it is to be stored: nobody is asked about it again."""

    value: Any


class Keeper:
    """What is stored of the values of one run. A reporter calls it where the report is made."""

    __slots__ = ("_op", "_redactor", "_values")

    def __init__(self, op: str, values: Values, redactor: Redactor | None = None) -> None:
        self._op, self._values, self._redactor = op, values, redactor

    def keep_event(self, type: object, body: Any) -> Any:
        """The body of an event of the user's own: the codec has it whole.

        Raises ``NotJson``, ``CodecFailed``.
        """
        if isinstance(body, RedactedBody):
            return body.value
        if self._redactor is None:
            return self._values.encode(body, "event")
        return self._redact(Telling(ToldKind.EVENT, self._op, str(type)), body, "event")

    def keep_our_event(self, type: str, body: dict[str, Any], part: str | None = None) -> Any:
        """The body of an event of the platform's: the codec has its ``part`` alone, if any.

        Raises ``NotJson``, ``CodecFailed``.
        """
        if self._redactor is not None:
            told = Telling(ToldKind.EVENT, self._op, type)
            return self._redact(told, body, "event", {*body}, part)
        if part is not None and part in body:
            body[part] = self._values.encode(body[part], part)
        return body

    def keep_message(self, message: Message) -> tuple[Any, Any]:
        """What the runner is given of a message, and what the tape has: as of a user's event.

        Raises ``CodecMissing``, ``CodecFailed``.
        """
        if self._redactor is None:
            return self._values.decode(message.body, "message"), message.body
        body = self._values.decode(message.body, "message")
        return body, self.keep_event(MESSAGE_TAKEN, _copy(body))

    def keep_result(self, result: Any) -> Any:
        """A runner's result. Raises ``NotJson``, ``CodecFailed``."""
        if self._redactor is None or result is None:
            return self._values.encode(result, "result")
        return self._redact(Telling(ToldKind.RESULT, self._op, "result"), result, "result")

    def redact(self, type: str, body: Any) -> RedactedBody:
        """What ``keep_event`` takes as it is. Raises ``NotJson``, ``CodecFailed``."""
        return RedactedBody(self.keep_event(type, body))

    def without_codec(self) -> Keeper:
        """The same with values stored as they are, whatever codec is set."""
        return Keeper(self._op, Values(), self._redactor)

    def _redact(
        self,
        told: Telling,
        value: Any,
        what: str,
        members: set[str] | None = None,
        part: str | None = None,
    ) -> Any:
        """What is stored of the hook's answer; ``members`` are those of a body of ours."""
        redactor = self._redactor
        assert redactor is not None, "there is a hook to ask"
        as_json = not self._values.has_codec or (members is not None and part not in members)
        if not self._values.has_codec:  # what would be taken for encoded is refused
            self._values.encode(value if part is None else value.get(part), part or what)
        given = decode(encode(value, what)) if as_json else _copy(value)
        answer = redactor.ask(told, given)
        if answer is NOT_REDACTED:
            return answer
        try:
            if members is not None and _has_shape(answer, members, part):
                if part in answer:
                    answer = answer | {part: self._values.encode(answer[part], str(part))}
                return decode(encode(answer, what))
            # Of another shape: what was the part may be anywhere in it, so the codec has it whole.
            return decode(encode(self._values.encode(answer, what), what))
        except Exception as error:
            if answer is given and not as_json and isinstance(error, CodecFailed | NotJson):
                raise  # the hook gave it back, and nobody looked at it before: the runner's mistake
            redactor.note_rubbish(answer, error)
            return NOT_REDACTED


def _copy(value: Any) -> Any:
    """A copy in the runner's own types, for a hook may change what it is given."""
    try:
        return deepcopy(value)
    except BaseException:  # noqa: BLE001  # whatever its class raises: it is given itself
        return value


def _has_shape(answer: Any, members: set[str], part: str | None) -> bool:
    """Whether it is a body of ours: of no more members, and texts and numbers but for the part."""
    if type(answer) is not dict:
        return False
    body = cast("dict[object, object]", answer)
    rest = (value for name, value in body.items() if name != part)
    return body.keys() <= members and all(type(value) in _SCALARS for value in rest)
