"""VNN-LIB texts of versions 1 and 2 as one syntax tree, with exact numbers.

The ``vnnlib`` package parses version 2. A text of version 1 (SMT-LIB: ``(declare-const X_0 Real)``, inputs ``X_i``,
outputs ``Y_i``) is rewritten to version 2 first, line for line: all ``X_i`` become one tensor ``X``, all ``Y_i`` one
tensor ``Y``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import vnnlib

from reluce.domain._read import _decimal
from reluce.errors import DomainError

DEEPEST = 200
"""Parentheses nested deeper are refused: Python recurses no further, and the C++ parser until the process dies."""

LONGEST_WORD = 5000
"""Characters of a number or a name; some of the patterns below take the square of that."""

MOST_BITS = 1 << 32
"""Of all different numbers of a text together: ``1e-9999`` is short as a text only."""

COMMENT = re.compile(r'("[^"\n]*")|;[^\r\n]*')  # SMT-LIB ends a comment at either character
DECLARATION = re.compile(r"\(\s*declare-(?:const|fun)\s+([^\s()]+)\s+(?:\(\s*\)\s*)?Real\s*\)")
COMMAND = re.compile(r"\(\s*(?:set-logic|set-info|set-option|check-sat|get-model|exit)\b[^()]*\)")
OPENING = re.compile(r"\((\s+)")
WORD = re.compile(r'"[^"\n]*"|\[[^\[\]]*\]|<[0-9]+\.[0-9]+>|[<>=!*]+|[^\s()\[\]"<>=!*]+')
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
DIGIT = re.compile(r"[0-9]")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
OLD_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")  # X_01 would be another variable than X_1
NEW_VARIABLE = re.compile(r"\b([XY])\[([0-9]+)\]")
ELEMENT_TYPE = re.compile(r"Real|float16|float32|bfloat16|float8e\w+|float4e2m1|u?int(?:8|16|32|64)")
SYNTAX_ERROR = re.compile(r"Parse error: syntax error at line (\d+), column \d+: '(.*)'", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Specification:
    """A parsed specification; ``numbers`` holds the exact value of each literal's ``lexeme``."""

    version: int
    query: vnnlib.Query
    numbers: Mapping[str, Fraction]


class Words(dict[str, str]):
    """What each word of a text becomes in the text that the parser reads.

    Literals become the numbers of places in a table, and tensors the one type whose literals these are: the parser
    reads them as floats, fails at ``1e-3`` and at ``1e-400``, and compares ``Real`` with no literal on its left.
    """

    def __init__(self, version: int, label: str) -> None:
        super().__init__()
        self.version = version
        self.label = label
        self.numbers: dict[str, Fraction] = {}
        self.bits = 0

    def __missing__(self, word: str) -> str:
        self[word] = self._translate(word)
        return self[word]

    def _translate(self, word: str) -> str:
        if len(word) > LONGEST_WORD and word[0] != '"':
            raise DomainError(f"{self.label}: cannot be read as VNN-LIB: {word[:40]!r}... is too long a word")
        if NUMBER.fullmatch(word):
            place = f"{len(self.numbers)}.0"
            self.numbers[place] = value = _decimal(word, self.label)
            self.bits += value.numerator.bit_length() + value.denominator.bit_length()
            if self.bits > MOST_BITS:
                raise DomainError(f"{self.label}: cannot be read as VNN-LIB: its numbers have too many digits")
            return place
        if word[0] not in '"[<' and DIGIT.search(word) and not NAME.fullmatch(word):
            # The parser might find a number in it, and take it for the place of another one.
            raise DomainError(f"{self.label}: cannot be read as VNN-LIB: {word!r} is neither a number nor a name")
        if self.version == 1:
            variable = OLD_VARIABLE.fullmatch(word)
            return f"{variable[1]}[{int(variable[2])}]" if variable else {"=": "=="}.get(word, word)
        return "float64" if ELEMENT_TYPE.fullmatch(word) else word

    def original(self, word: str) -> str:
        return next((old for old, new in self.items() if new == word), word)


def parse(text: str, label: str, elements: int) -> Specification:
    """Parse a specification.

    Parameters
    ----------
    text
        The text, of either version.
    label
        What errors call it.
    elements
        How many elements the network's inputs have together; version 1 must declare as many ``X_i``.

    Raises
    ------
    DomainError
        When it is not VNN-LIB, holds no assertion, or is of version 1 and has another number of inputs.
    """
    text = OPENING.sub(r"\1(", COMMENT.sub(r"\1", text))
    version = 2 if "(vnnlib-version" in text or "(declare-network" in text else 1
    if "\0" in text or (version == 1 and not DECLARATION.search(text)):
        raise DomainError(
            f"{label}: not VNN-LIB: it has neither (declare-const X_0 Real) as in version 1 nor (vnnlib-version <2.0>)"
        )
    if "assert" not in text:
        raise DomainError(f"{label}: the specification has no assertion, so its inputs are unbounded")
    if version == 1:
        text = _to_version_2(text, label, elements)
    steps = (1 if bracket == "(" else -1 for bracket in re.findall(r"[()]", text))
    if max(accumulate(steps), default=0) > DEEPEST:
        raise DomainError(f"{label}: parentheses are nested more than {DEEPEST} deep; write nested sums as one")
    words = Words(version, label)
    text = WORD.sub(lambda match: words[match[0]], text)
    try:
        return Specification(version, vnnlib.parse_query_string(text), words.numbers)
    except Exception as error:  # besides its own, it lets through what the C++ library throws
        raise DomainError(
            f"{label}: cannot be read as VNN-LIB version {version}: {_reason(str(error), words)}"
        ) from error


def _to_version_2(text: str, label: str, elements: int) -> str:
    declared: set[tuple[str, int]] = set()

    def declare(match: re.Match[str]) -> str:
        variable = OLD_VARIABLE.fullmatch(match[1])
        if variable is None:
            raise DomainError(
                f"{label}: declares {match[1]!r}; the variables of version 1 are the inputs X_0, X_1, .. "
                f"and the outputs Y_0, Y_1, .."
            )
        declared.add((variable[1], int(variable[2])))
        return "\n" * match[0].count("\n")  # every line keeps its number

    text = COMMAND.sub("", DECLARATION.sub(declare, text))
    inputs = {i for letter, i in declared if letter == "X"}
    if len(inputs) != elements:
        raise DomainError(
            f"{label}: the specification has {len(inputs)} inputs X, the network has {elements} input elements"
        )
    if max(inputs, default=-1) >= elements:
        raise DomainError(f"{label}: its inputs are not X_0 to X_{elements - 1}: it declares X_{max(inputs)}")
    outputs = max((i for letter, i in declared if letter == "Y"), default=0) + 1
    return (
        f"(vnnlib-version <2.0>)(declare-network N (declare-input X float64 [{max(elements, 1)}])"
        f"(declare-output Y float64 [{outputs}])){text}"
    )


def _reason(message: str, words: Words) -> str:
    syntax = SYNTAX_ERROR.fullmatch(message)
    if syntax:
        place = f"at {words.original(syntax[2])!r}" if syntax[2] else "at its end"
        reason = f"line {syntax[1]}: syntax error {place}"
    elif message.startswith("{"):
        first = json.loads(message)["errors"][0]
        reason = f"line {first['line']}: {first['message']} {first['offendingSymbol']}: {first['hint']}"
    else:
        reason = " ".join(message.split())
    return NEW_VARIABLE.sub(r"\1_\2", reason) if words.version == 1 else reason
