"""One pass over a record's pieces: checks that it is JSON and hands each member that a rule concerns to its rule.

The loop keeps the state of the open object or array in local variables and the outer ones on an explicit stack, so
depth costs memory, not recursion. It is one long function because a call per member would cost a third of the speed.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.privacy import values
from pipeline.privacy.consent import Scope
from pipeline.privacy.errors import UnparsableRecord
from pipeline.privacy.members import Field, Members, Neighbours
from pipeline.privacy.rules import Act, Rule, RuleSet

LONGEST_PATH: Final = 400
_DEEPEST: Final = 200_000
_KEY, _FIRST_KEY, _COLON, _VALUE, _FIRST_VALUE, _AFTER, _END = range(7)
_INSPECT: Final = Act.INSPECT
_SKIP: Final = Act.SKIP
_TIME: Final = Act.TIME
_IDENTIFIER: Final = Act.IDENTIFIER
_AGENT: Final = Act.AGENT
_SIGNAL: Final = Act.SIGNAL
_PURPOSE: Final = Act.PURPOSE


class Walk(Members):
    """One pass over one text. After `run`, the pieces are changed but for what waits for `settle`."""

    __slots__ = ()

    def run(self, outermost: RuleSet) -> None:
        """Walk all pieces. Raises UnparsableRecord when they are no JSON text."""
        book, pieces, shapes, literals = self._book, self.pieces, self._engine.shapes, self._engine.literals
        waiting, paths, kinds = self._waiting, self.paths, self.kinds
        anywhere, events, plain = book.any, book.event, book.plain
        clean = plain.clean
        total = len(pieces)
        stack: list[tuple[Any, ...]] = []
        is_object = False
        prefix = key = ""
        ordinal = 0
        rules, scope = outermost, self.scope
        rule: Rule | None = None
        inherited: Rule | Neighbours | None = None
        neighbours: Neighbours | None = None
        signs = role = 0
        state = _VALUE
        index = 0
        while True:
            # A structural piece.
            for number, symbol in enumerate(shapes[pieces[index]]):
                if symbol == ",":
                    if state != _AFTER or not stack:
                        raise UnparsableRecord("a comma stands where none may")
                    ordinal += 1
                    state = _KEY if is_object else _VALUE
                elif symbol == ":":
                    if state != _COLON:
                        raise UnparsableRecord("a colon stands where none may")
                    state = _VALUE
                elif symbol == "{" or symbol == "[":
                    if state != _VALUE and state != _FIRST_VALUE:
                        raise UnparsableRecord("a bracket stands where none may")
                    if len(stack) >= _DEEPEST:
                        raise UnparsableRecord("the record is nested too deep")
                    if is_object and rule is not None and rule.act == Act.CONTENT and neighbours is None:
                        neighbours = Neighbours()
                    path = ""
                    if stack:
                        path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                        if len(path) > LONGEST_PATH:
                            path = prefix.rstrip(".")
                    stack.append(
                        (is_object, prefix, key, ordinal, rules, scope, inherited, neighbours, signs, role, rule)
                    )
                    if is_object:
                        role = 0
                        rules = anywhere
                        if rule is not None:
                            role = rule.role
                            if rule.inner is not None:
                                rules = rule.inner
                            elif rule.act == Act.AGENT:
                                self._hit(path, rule.kind)
                        if inherited is not None or (rule is not None and rule.act != _INSPECT):
                            inherited = self._inherited(key, rule, inherited, neighbours)
                    elif symbol == "{" and rules is events:
                        scope = Scope(parent=self.scope)
                        self.events.append(scope)
                    is_object = symbol == "{"
                    prefix = path + "." if is_object and path else path
                    ordinal = signs = 0
                    neighbours = None
                    key = ""
                    if is_object:
                        rule = None
                        state = _FIRST_KEY
                    else:
                        if rule is not None and rule.act not in (Act.INSPECT, Act.NAME):
                            rule = None
                        state = _FIRST_VALUE
                elif symbol == "}" or symbol == "]":
                    if (symbol == "}") is not is_object or not stack or state not in (_AFTER, _FIRST_KEY, _FIRST_VALUE):
                        raise UnparsableRecord("a bracket closes what isn't open")
                    if neighbours is not None:
                        self._meet(neighbours, signs, role, scope)
                    inner_signs = signs
                    (is_object, prefix, key, ordinal, rules, scope, inherited, neighbours, signs, role, rule) = (
                        stack.pop()
                    )
                    if not is_object:
                        signs |= inner_signs
                    state = _AFTER if stack else _END
                else:
                    if state != _VALUE and state != _FIRST_VALUE:
                        raise UnparsableRecord("a value stands where none may")
                    if not stack:
                        raise UnparsableRecord("the record isn't a JSON object")
                    if rule is not None or inherited is not None or len(symbol) > 11:
                        if rule is not None:
                            signs |= rule.sign
                        path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                        place = Field(index, path, rule, number)
                        neighbours = self._literal(place, symbol, key, inherited, neighbours, scope)
                    state = _AFTER
            index += 1
            if index == total:
                break
            # Strings: while names and their values follow each other in one object, this loop isn't left.
            while True:
                if state == _KEY or state == _FIRST_KEY:  # noqa: SIM109  # `in` is slower
                    key = pieces[index]
                    rule = rules[key]
                    if rule is not None and rule.names_itself:
                        self._name_of_member(index, prefix, ordinal, rule)
                        key, rule = f"[{ordinal}]", None
                    separator = pieces[index + 1]
                    if separator != ": " and separator != ":":
                        literal = literals[separator]
                        if literal is None or not is_object:
                            state = _COLON
                            break
                        # A number, true, false or null, and the comma behind it.
                        index += 1
                        if rule is None:
                            if inherited is not None or len(literal) > 11:
                                place = Field(index, prefix + key, None, 1)
                                neighbours = self._literal(place, literal, key, inherited, neighbours, scope)
                        elif rule.act == _SIGNAL:
                            if literal == "true" or literal == "1":
                                scope.signal(rule.purpose)
                        elif rule.act == _PURPOSE and literal != "null":
                            scope.say(rule.purpose, literal == "true" or literal == "1")
                        else:
                            signs |= rule.sign
                            if rule.act != _INSPECT or inherited is not None or len(literal) > 11:
                                place = Field(index, prefix + key, rule, 1)
                                neighbours = self._literal(place, literal, key, inherited, neighbours, scope)
                        index += 1
                        if index == total:
                            raise UnparsableRecord("a comma stands where none may")
                        ordinal += 1
                        state = _KEY
                        continue
                    index += 2
                    if index == total:
                        raise UnparsableRecord("a name has no value")
                elif state != _VALUE and state != _FIRST_VALUE:
                    raise UnparsableRecord("a string stands where none may")
                body = pieces[index]
                if inherited is not None:
                    path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                    if rule is not None:
                        signs |= rule.sign
                    neighbours = self._string(Field(index, path, rule), key, body, inherited, neighbours, scope)
                elif rule is None:
                    if body not in clean:
                        path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                        self._inspect(index, path, body, plain, scope)
                elif rule.act == _INSPECT:
                    signs |= rule.sign
                    if body not in rule.context.clean:
                        path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                        self._inspect(index, path, body, rule.context, scope)
                elif rule.act != _SKIP and not (rule.act == _TIME and values.is_timestamp(body)):
                    path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                    signs |= rule.sign
                    if rule.act == _IDENTIFIER and body and body[0] != "[":
                        waiting.append((scope, rule, index, path))
                    elif rule.act == _AGENT and body and body[0] != "[":
                        pieces[index] = values.reduced_agent(body)
                        paths.append(path)
                        kinds.append("user_agent")
                    else:
                        neighbours = self._string(Field(index, path, rule), key, body, None, neighbours, scope)
                state = _AFTER
                separator = pieces[index + 1]
                if is_object and (separator == ", " or separator == ","):
                    index += 2
                    if index == total:
                        raise UnparsableRecord("a comma stands where none may")
                    ordinal += 1
                    state = _KEY
                    continue
                break
            index += 1
        if state != _END:
            raise UnparsableRecord("the record ends too early")
