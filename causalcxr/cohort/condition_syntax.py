"""Condition syntax: `Age > 60 and Sex == 'F'` as a tree; no code is executed.

condition   := conjunction (("or" | "|") conjunction)*
conjunction := negation (("and" | "&") negation)*
negation    := ("not" | "~") negation | "(" condition ")" | comparison
comparison  := operand (("==" | "!=" | "<" | "<=" | ">" | ">=") operand)*
             | operand ["not"] "in" "[" literal ("," literal)* "]"
             | operand "is" ["not"] "missing"
operand     := name | `name with spaces` | literal
literal     := number | 'text' | "text" | True | False
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from causalcxr.common.errors import CohortError

__all__ = [
    "AllOf",
    "AnyOf",
    "Column",
    "Condition",
    "Literal",
    "Member",
    "Missing",
    "Not",
    "Relation",
    "parse_condition",
    "refuse",
]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | `(?P<quoted>[^`]+)`
      | (?P<name>[^\W\d]\w*)
      | (?P<sign><=|>=|==|!=|<|>|\(|\)|\[|\]|,|&|\||~)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"""\\([\\'"])""")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_WORDS = ("and", "or", "not", "in", "is")
_REMEDIES = {"=": "write == to compare", "@": "write the value itself", "!": "write not"}
_DEPTH = 100  # nested parentheses and negations
_EXAMPLE = "write it as in \"Age > 60 and Sex == 'F'\""


@dataclass(frozen=True)
class Column:
    """A column; alone it is a condition if it holds True and False."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A number, a text, or a truth value."""

    value: int | float | str | bool


Operand = Column | Literal


@dataclass(frozen=True)
class Relation:
    """A comparison of two operands."""

    left: Operand
    sign: str
    right: Operand


@dataclass(frozen=True)
class Member:
    """True if a column's value is one of a list."""

    column: Operand
    literals: tuple[Literal, ...]


@dataclass(frozen=True)
class Missing:
    """True if a column's value is missing."""

    column: Operand


@dataclass(frozen=True)
class Not:
    """The negation of a condition; unknown stays unknown."""

    condition: "Condition"


@dataclass(frozen=True)
class AllOf:
    """True if every condition is true."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True)
class AnyOf:
    """True if any condition is true."""

    conditions: tuple["Condition", ...]


Condition = Column | Relation | Member | Missing | Not | AllOf | AnyOf


def parse_condition(text: str) -> Condition:
    """Return the tree of a condition.

    Raises:
        CohortError: If the text is not a valid condition.

    Example:
        >>> parse_condition("age > 60")
        Relation(left=Column(name='age'), sign='>', right=Literal(value=60))
    """
    parser = _Parser(text, _tokens(text))
    tree = parser.condition()
    if parser.kind != "end":
        spaces = "put `backticks` around a name with spaces, or " if parser.kind == "name" else ""
        parser.refuse(f"{parser.token!r} is not expected there; {spaces}join with and, or")
    return tree


def refuse(text: str, reason: str) -> NoReturn:
    """Raise the error about a condition that cannot be used."""
    brief = text if len(text) <= 60 else f"{text[:57]}..."
    raise CohortError(f"query {brief!r}: {reason}")


def _tokens(text: str) -> list[tuple[str, str]]:
    """Return the tokens of a text as (kind, token), the last one ("end", "")."""
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].lstrip()
            remedy = _REMEDIES.get(rest[0], "")
            if rest[0] in "'\"`":
                remedy = f"close the {rest[0]}"
            reason = f"{rest[0]!r} cannot be read{f' ({remedy})' if remedy else ''}; {_EXAMPLE}"
            refuse(text, reason)
        kind = match.lastgroup or ""
        token = match[kind]
        if kind == "text":
            # Without its quotes, and without the backslashes that escape.
            token = _ESCAPED.sub(r"\1", token[1:-1])
        if kind == "name" and token in _WORDS:
            kind = "word"
        tokens.append((kind, token))
        place = match.end()
    return [*tokens, ("end", "")]


class _Parser:
    """A parser with one method for each rule of the grammar."""

    def __init__(self, text: str, tokens: Sequence[tuple[str, str]]) -> None:
        self.text, self.tokens = text, tokens
        self.place = self.depth = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.place][0]

    @property
    def token(self) -> str:
        return self.tokens[self.place][1]

    def refuse(self, reason: str) -> NoReturn:
        refuse(self.text, f"{reason}; {_EXAMPLE}")

    def accept(self, *tokens: str) -> str:
        """Consume a word or sign if it is one of these, and return it."""
        if self.kind in ("word", "sign") and self.token in tokens:
            self.place += 1
            return self.tokens[self.place - 1][1]
        return ""

    def condition(self) -> Condition:
        parts = [self.conjunction()]
        while self.accept("or", "|"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def conjunction(self) -> Condition:
        parts = [self.negation()]
        while self.accept("and", "&"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def negation(self) -> Condition:
        self.depth += 1
        # Each level is a call of Python, whose stack is limited.
        if self.depth > _DEPTH:
            self.refuse(f"more than {_DEPTH} nested conditions")
        if self.accept("not", "~"):
            tree: Condition = Not(self.negation())
        elif self.accept("("):
            tree = self.condition()
            if not self.accept(")"):
                self.refuse("a ( is not closed")
        else:
            tree = self.comparison()
        self.depth -= 1
        return tree

    def comparison(self) -> Condition:
        left = self.operand()
        turned = bool(self.accept("not"))
        if self.accept("in"):
            tree: Condition = Member(left, self.literals())
            return Not(tree) if turned else tree
        if turned:
            self.refuse("in is expected after not")
        if self.accept("is"):
            return self.missing(left)
        # 40 < Age < 60 means both: Age is the right side of one and the left of the next.
        parts = []
        while sign := self.accept(*_COMPARISONS):
            right = self.operand()
            parts.append(Relation(left, sign, right))
            left = right
        if parts:
            return parts[0] if len(parts) == 1 else AllOf(tuple(parts))
        if isinstance(left, Literal):
            self.refuse(f"{left.value!r} is not a condition")
        return left

    def missing(self, column: Operand) -> Condition:
        turned = bool(self.accept("not"))
        if self.kind != "name" or self.token != "missing":
            self.refuse("missing or not missing is expected after is")
        self.place += 1
        return Not(Missing(column)) if turned else Missing(column)

    def literals(self) -> tuple[Literal, ...]:
        closing = {"[": "]", "(": ")"}.get(self.accept("[", "("))
        if closing is None:
            self.refuse("a list such as ['F', 'M'] is expected after in")
        values: list[Literal] = []
        while not self.accept(closing):
            if values and not self.accept(","):
                self.refuse("a , is expected between the values of a list")
            value = self.operand()
            if isinstance(value, Column):
                self.refuse(f"a list holds numbers and quoted texts, not {value.name!r}")
            values.append(value)
        return tuple(values)

    def operand(self) -> Operand:
        kind, token = self.kind, self.token
        if kind not in ("number", "text", "name", "quoted"):
            self.refuse(f"a column or a value is expected, not {token or 'the end'!r}")
        self.place += 1
        if kind == "number":
            return Literal(int(token) if re.fullmatch(r"[+-]?\d{1,400}", token) else float(token))
        if kind == "text":
            return Literal(token)
        if kind == "name" and token in ("True", "False"):
            return Literal(token == "True")
        return Column(token)
