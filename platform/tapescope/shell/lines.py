"""The output of a command, cut into lines that a tape can hold."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["LINE_BYTES", "LineSplitter", "count_lines"]

LINE_BYTES: Final = 8_192
"""A longer line becomes several events; with every byte escaped, one still fits on a tape."""
_MANY: Final = 64


class LineSplitter:
    """Cuts one stream's bytes into ``log`` bodies: ``{"stream": …, "line": …}``, in order.

    A body says ``"continued": true`` when its line goes on in the next one, and ``"escaped": true``
    when it holds bytes that text cannot: those that are not UTF-8, and NUL, are written ``\\xNN``.
    """

    def __init__(self, stream: str, line_bytes: int = LINE_BYTES) -> None:
        self._stream = stream
        self._limit = line_bytes
        self._unfinished = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The lines that ``chunk`` ends, and the parts of a line that has grown too long."""
        *ended, self._unfinished = (self._unfinished + chunk).split(b"\n")
        bodies: list[dict[str, Any]] = []
        for line in ended:
            bodies.append(self._body(self._cut(line, bodies), continued=False))
        self._unfinished = self._cut(self._unfinished, bodies)
        return bodies

    def end(self) -> list[dict[str, Any]]:
        """The last line, when no newline ends it."""
        rest, self._unfinished = self._unfinished, b""
        return [self._body(rest, continued=False)] if rest else []

    def forget(self) -> int:
        """Drop the unfinished line; how many bytes of it there were."""
        size, self._unfinished = len(self._unfinished), b""
        return size

    def _cut(self, line: bytes, bodies: list[dict[str, Any]]) -> bytes:
        start = 0
        while len(line) - start > self._limit:
            stop = _between_characters(line, start + self._limit)
            bodies.append(self._body(line[start:stop], continued=True))
            start = stop
        return line[start:]

    def _body(self, part: bytes, *, continued: bool) -> dict[str, Any]:
        try:
            text = part.decode()
            escaped = "\0" in text
        except UnicodeDecodeError:
            text = part.decode(errors="backslashreplace")
            escaped = True
        if escaped:
            text = text.replace("\0", r"\x00")
        body: dict[str, Any] = {"stream": self._stream, "line": text}
        if continued:
            body["continued"] = True
        if escaped:
            body["escaped"] = True
        return body


def count_lines(chunk: bytes) -> int:
    """How many lines end in it.

    ``bytes.count`` looks at each byte, a nanosecond each; ``find`` leaps, and is slow only where
    there are many to find.
    """
    lines = begin = 0
    while lines < _MANY:
        begin = chunk.find(b"\n", begin) + 1
        if not begin:
            return lines
        lines += 1
    return lines + chunk.count(b"\n", begin)


def _between_characters(line: bytes, at: int) -> int:
    """The nearest place up to 3 bytes before ``at`` that is not inside a UTF-8 character."""
    for place in range(at, at - 4, -1):
        if line[place] & 0xC0 != 0x80:
            return place
    return at  # not UTF-8: any place will do
