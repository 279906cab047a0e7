"""Where names, strings and literals stand in a text: its JSON grammar, read once for all texts of one shape.

Events of one type differ in their strings and numbers, hardly in their structure. So what stands between the strings
is folded into a shape in which every number is the same, and what follows from the shape is kept: where the names are
(`Layout`), and with these names what is to be done (`plan.Plan`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from pipeline.privacy import record
from pipeline.privacy.errors import UnparsableRecord

OPEN_OBJECT, OPEN_ARRAY, CLOSE, NAME, STRING, NUMBER, LONG_NUMBER, CONSTANT, COMMA = range(9)
"""What an op says; the index of its piece is shifted by OP_BITS."""
OP_BITS: Final = 4

LONG_DIGITS: Final = 9
"""Numbers of so many digits may identify by themselves."""

Shape = tuple[str, ...]
LITERALS: Final = frozenset("nNc")
"""What stands for literals in a shape."""
Picker = Callable[[list[str]], tuple[str, ...]]

_LITERAL = re.compile(rf"{record.NUMBER}|true|false|null")
_NUMBERED = re.compile(r":[ ]?((?:0|[1-9][0-9]*+)(?:\.[0-9]++)?),[ ]?")
_LONGEST = 48
_MOST = 16_384
_DEEPEST: Final = 200_000
_KEY, _FIRST_KEY, _COLON, _VALUE, _FIRST_VALUE, _AFTER, _END = range(7)


class Folded(dict[str, str]):
    """Structural pieces without blanks, their literals as one letter: n, N (a long number), c (true, false, null)."""

    def __missing__(self, piece: str) -> str:
        number = _NUMBERED.fullmatch(piece)
        if number:  # ids and prices: hardly ever seen before
            folded = ":N," if len(number[1]) >= LONG_DIGITS and number[1].isdigit() else ":n,"
        else:
            folded = "".join(map(_letter, record.structure(piece)))
        if len(piece) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[piece] = folded
        return folded


class Literals(dict[str, tuple[str, ...]]):
    """The literals of a structural piece, in order."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        literals = tuple(_LITERAL.findall(piece))
        if len(piece) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[piece] = literals
        return literals


def _letter(part: str) -> str:
    if part in "{}[],:":
        return part
    if part in ("true", "false", "null"):
        return "c"
    return "N" if len(part) >= LONG_DIGITS and part.isdigit() else "n"


@dataclass(frozen=True, slots=True)
class Layout:
    """`ops` in the order of the text; `named` are the indexes of the names, `names` picks them out of the pieces."""

    ops: tuple[int, ...]
    named: tuple[int, ...]
    names: Picker


def replace_literals(piece: str, changes: dict[int, str]) -> str:
    """`piece` with other literals at the ordinals in `changes`."""
    ordinal = -1

    def change(match: re.Match[str]) -> str:
        nonlocal ordinal
        ordinal += 1
        return changes.get(ordinal, match[0])

    return _LITERAL.sub(change, piece)


def read(shape: Shape) -> Layout:
    """The layout of all texts of one shape. Raises UnparsableRecord when they are no JSON object or array."""
    ops: list[int] = []
    names: list[int] = []
    stack: list[bool] = []
    is_object = False
    state = _VALUE
    last = len(shape) - 1
    for number, folded in enumerate(shape):
        place = number << OP_BITS + 1
        for symbol in folded:
            if symbol == ",":
                if state != _AFTER or not stack:
                    raise UnparsableRecord("a comma stands where none may")
                state = _KEY if is_object else _VALUE
                ops.append(COMMA)
            elif symbol == ":":
                if state != _COLON:
                    raise UnparsableRecord("a colon stands where none may")
                state = _VALUE
            elif symbol == "{" or symbol == "[":
                if state != _VALUE and state != _FIRST_VALUE:
                    raise UnparsableRecord("a bracket stands where none may")
                if len(stack) >= _DEEPEST:
                    raise UnparsableRecord("the record is nested too deep")
                stack.append(is_object)
                is_object = symbol == "{"
                ops.append(place | (OPEN_OBJECT if is_object else OPEN_ARRAY))
                state = _FIRST_KEY if is_object else _FIRST_VALUE
            elif symbol == "}" or symbol == "]":
                if (symbol == "}") is not is_object or not stack or state not in (_AFTER, _FIRST_KEY, _FIRST_VALUE):
                    raise UnparsableRecord("a bracket closes what isn't open")
                is_object = stack.pop()
                ops.append(CLOSE)
                state = _AFTER if stack else _END
            else:
                if (state != _VALUE and state != _FIRST_VALUE) or not stack:
                    raise UnparsableRecord("a value stands where none may")
                ops.append(place | (CONSTANT if symbol == "c" else LONG_NUMBER if symbol == "N" else NUMBER))
                state = _AFTER
        if number == last:
            break
        index = 2 * number + 1
        if state == _KEY or state == _FIRST_KEY:  # noqa: SIM109  # `in` is slower
            names.append(index)
            ops.append(index << OP_BITS | NAME)
            state = _COLON
        elif stack and (state == _VALUE or state == _FIRST_VALUE):  # noqa: SIM109
            ops.append(index << OP_BITS | STRING)
            state = _AFTER
        else:
            raise UnparsableRecord("a string stands where none may")
    if state != _END:
        raise UnparsableRecord("the record ends too early")
    return Layout(tuple(ops), tuple(names), picker(names))


def picker(indexes: Sequence[int]) -> Picker:
    """Takes the pieces of some indexes out of a text's, at the speed of C."""
    if len(indexes) > 1:
        return itemgetter(*indexes)
    if indexes:
        only = indexes[0]
        return lambda pieces: (pieces[only],)
    return lambda _: ()
