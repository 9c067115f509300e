"""Names in SQL that no ``search_path`` leads elsewhere (docs/decisions/0035)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["UnsafeNameError", "qualify"]

Made = Mapping[str, Literal["TABLE", "FUNCTION"]]

_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<operand>'(?:[^']|'')*' | "[^"]+" | \$\d+ | \d+(?:\.\d+)?(?:e\d+)?)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<fixed>::|=>)
      | (?P<operator>[-+*/<>=~!@\#%^&|?]+)
      | (?P<mark>[(),.\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_SYNTAX: Final = frozenset({"coalesce", "greatest", "least", "extract"})
"""What looks like a function, and is not a name: the grammar's own."""
_GRAMMAR_TYPES: Final = frozenset({"bigint", "integer", "smallint", "double", "boolean", "numeric"})
"""Types that the grammar itself puts into ``pg_catalog``."""
_REFUSED: Final = frozenset(
    {"BETWEEN", "LIKE", "ILIKE", "SIMILAR", "OVERLAPS", "NATURAL", "USING", "NULLIF", "DISTINCT"}
)
"""Words with an operator in them that has no place for a schema."""
_WITHIN: Final = frozenset({"ANY", "ALL", "ARRAY", "NULL", "TRUE", "FALSE"})
"""Words in capitals that do not part two expressions."""


class UnsafeNameError(ValueError):
    """A statement of our own that a ``search_path`` could lead elsewhere: write it otherwise."""

    def __init__(self, why: str, near: str) -> None:
        super().__init__(f"{why}, near {near!r}")


@dataclass(slots=True)
class _Level:
    """What is open between two parentheses."""

    operator: bool = False
    """An operator stands in this expression."""
    assigns: Literal["no", "list", "next"] = "no"
    """In the list of a SET; ``next`` where an equals sign is to come that assigns."""


def qualify(sql: str, schema: str = "", made: Made | None = None) -> str:
    """The statement with the schema of each function, operator, type and table in it.

    What is in ``made`` is the schema's, all else is ``pg_catalog``'s. So the parser looks nowhere
    else, whatever the ``search_path`` of the session, which may be a caller's, and whoever may
    create functions in it. What cannot be told apart raises ``UnsafeNameError``: two operators in
    one expression without a parenthesis, for with its schema an operator loses its precedence, and
    words that hold an operator.

    Keywords are in capitals, names are not; a function's parenthesis follows its name at once.
    """
    return _Qualifier(sql, schema, made or {}).run()


class _Qualifier:
    def __init__(self, sql: str, schema: str, made: Made) -> None:
        self._sql, self._schema, self._made = sql, schema, made
        self._tokens = [(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(sql)]
        if "".join(text for _, text in self._tokens) != sql:
            raise UnsafeNameError("it has a sign that is not known here", sql)
        self._solid = [n for n, (kind, _) in enumerate(self._tokens) if kind != "blank"]
        self._levels = [_Level()]
        self._out = [text for _, text in self._tokens]

    def run(self) -> str:
        for place in range(len(self._solid)):
            kind, text = self._at(place)
            match kind:
                case "word":
                    self._word(place, text)
                case "operator":
                    self._operator(place, text)
                case "mark":
                    self._mark(text)
                case _:
                    pass
        return "".join(self._out)

    def _at(self, place: int) -> tuple[str, str]:
        """The token at a place, blanks left out."""
        if not 0 <= place < len(self._solid):
            return "", ""
        return self._tokens[self._solid[place]]

    def _put(self, place: int, text: str) -> None:
        self._out[self._solid[place]] = text

    def _near(self, place: int) -> str:
        return "".join(text for _, text in self._tokens[max(0, self._solid[place] - 8) :][:16])

    def _is_operand(self, place: int) -> bool:
        kind, text = self._at(place)
        return (
            kind == "operand"
            or (kind == "word" and (not text.isupper() or text in ("NULL", "TRUE", "FALSE")))
            or text in (")", "]")
        )

    def _mark(self, text: str) -> None:
        if text in ("(", "["):
            self._levels.append(_Level())
        elif text in (")", "]"):
            self._levels.pop()
        elif text == ",":
            level = self._levels[-1]
            level.operator = False
            level.assigns = "no" if level.assigns == "no" else "next"

    def _word(self, place: int, word: str) -> None:
        _, before = self._at(place - 1)
        if word.isupper() and before != ".":
            self._keyword(place, word)
        elif before == "::":
            if word not in _GRAMMAR_TYPES and self._at(place + 1)[1] != ".":
                self._put(place, f"pg_catalog.{word}")
        elif before in ("FROM", "JOIN", "INTO", "UPDATE", "TABLE"):
            if self._made.get(word) == "TABLE":
                self._put(place, f'"{self._schema}".{word}')
            elif word.startswith("pg_") and word != "pg_catalog":
                self._put(place, f"pg_catalog.{word}")
            else:
                self._function(place, word, before)
        else:
            self._function(place, word, before)

    def _function(self, place: int, word: str, before: str) -> None:
        here = self._solid[place]
        called = self._tokens[here + 1][1] == "(" if here + 1 < len(self._tokens) else False
        if not called or before in (".", "AS") or word in _SYNTAX:
            return
        of = f'"{self._schema}"' if self._made.get(word) == "FUNCTION" else "pg_catalog"
        self._put(place, f"{of}.{word}")

    def _keyword(self, place: int, word: str) -> None:
        level = self._levels[-1]
        _, before = self._at(place - 1)
        if word == "IN" and self._at(place + 1)[1] == "(":
            self._in(place, negated=before == "NOT")
            return
        refused = word in _REFUSED and (word != "DISTINCT" or before in ("IS", "NOT"))
        if refused and not (word == "USING" and self._at(place + 1)[1] != "("):
            raise UnsafeNameError(f"{word} has an operator without a schema", self._near(place))
        if word == "CASE" and self._at(place + 1)[1] != "WHEN":
            raise UnsafeNameError("CASE with a value compares without a schema", self._near(place))
        if word not in _WITHIN:
            level.operator = False
        if word == "SET":
            level.assigns = "next"
        elif word in ("WHERE", "FROM", "RETURNING"):
            level.assigns = "no"

    def _in(self, place: int, *, negated: bool) -> None:
        """``IN`` a list of constants, as the operator that it stands for."""
        end = place + 2
        while self._at(end)[0] == "operand" or self._at(end)[1] == ",":
            end += 1
        if self._at(end)[1] != ")":
            raise UnsafeNameError("IN takes a list of constants here", self._near(place))
        self._take_place_of_operator(place)
        if negated:
            self._put(place - 1, "OPERATOR(pg_catalog.<>)")
        self._put(place, "ALL" if negated else "OPERATOR(pg_catalog.=) ANY")
        self._put(place + 1, "(ARRAY[")
        self._put(end, "])")

    def _operator(self, place: int, sign: str) -> None:
        level = self._levels[-1]
        if sign == "*" and not self._is_operand(place - 1):
            return  # every column
        if sign == "=" and level.assigns == "next":
            level.assigns = "list"
            return
        if not self._is_operand(place - 1):
            if sign != "-" or not self._at(place + 1)[1].isdecimal():
                raise UnsafeNameError(f"{sign} is before a value", self._near(place))
            return  # a negative number
        self._take_place_of_operator(place)
        self._put(place, f"OPERATOR(pg_catalog.{sign})")

    def _take_place_of_operator(self, place: int) -> None:
        if self._levels[-1].operator:
            raise UnsafeNameError(
                "two operators need a parenthesis between them", self._near(place)
            )
        self._levels[-1].operator = True
