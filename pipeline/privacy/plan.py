"""What is to be done with the values of a text, as far as its layout and its names tell.

`compile_plan` walks once over a layout and gives every string and literal to the rule of its name, or of the object it
stands in. What depends on the values themselves (consent, a form field's label, whose `name` it is) is left to
`redaction.Redaction`, which takes the plan for every text with the same layout and names.

The walk keeps the state of the open object or array in local variables and the outer ones on an explicit stack, so
depth costs memory, not recursion. It is one long function because a call per member would double its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pipeline.privacy import layout, record
from pipeline.privacy.findings import Context
from pipeline.privacy.layout import OP_BITS, Layout, Picker, Shape, picker
from pipeline.privacy.rules import Act, Rule, RuleBook, RuleSet
from pipeline.privacy.shapes import redacted

LONGEST_PATH: Final = 400
WHOLE: Final = -1
"""The literal ordinal of a place that is a string."""

OURS: Final = frozenset(("privacy", "ip_hash", "ip_hash_key_version"))
"""Members that the engine adds to a record, and takes out of one that it is given."""

_CODE: Final = (1 << OP_BITS) - 1
_PASSED_ON = frozenset((Act.REDACT, Act.IDENTIFIER, Act.AGENT, Act.ZIP, Act.PSEUDONYM))
_OUTRANKED = frozenset((Act.INSPECT, Act.CONTENT, Act.LABEL, Act.NAME, Act.DATE, Act.AGE))
_OF_A_FIELD = frozenset((Act.LABEL, Act.CONTENT, Act.NAME))
"""A list of answers may hold fields with labels of their own."""
_QUIET = frozenset((Act.INSPECT, Act.LABEL, Act.NAME, Act.STAMP))
"""Acts that leave numbers alone, unless they are long."""
_NO_PIECES = picker(())


class Place(NamedTuple):
    """A piece that is a string (`literal` is WHOLE), or the literal of that ordinal in it, and whose consent counts."""

    piece: int
    literal: int
    path: str
    scope: int


class Step(NamedTuple):
    """Do to a place what the rule says; `member` is its name where an earlier run may have reduced a user agent."""

    place: Place
    rule: Rule
    member: str | None = None


class LongNumber(NamedTuple):
    """A literal that may be a card or a national id. `name` is what stands before it."""

    place: Place
    name: str
    identifiers: bool


class Renamed(NamedTuple):
    """A name that is itself personal, and what takes its place."""

    piece: int
    marker: str
    path: str
    kind: str


@dataclass(slots=True, eq=False)
class Group:
    """What an object tells about its own `name`, and about a form field's name and content."""

    labels: list[int] = field(default_factory=list)
    names: list[Step] = field(default_factory=list)
    contents: list[Place] = field(default_factory=list)
    signs: int = 0
    role: int = 0


@dataclass(slots=True, eq=False)
class Guess:
    """A plan, and what a text must have for it: the same names and structure, literals in folded form."""

    plan: Plan
    fixed: Picker
    """All pieces but values and those with literals; `expected` is what they are."""
    expected: tuple[str, ...]
    folded: list[tuple[int, str]]

    @classmethod
    def of(cls, plan: Plan, shape: Shape, named: tuple[int, ...], pieces: list[str]) -> Guess:
        """The guess for texts like `pieces`, whose names have the indexes `named`."""
        folded = [(2 * number, text) for number, text in enumerate(shape) if not layout.LITERALS.isdisjoint(text)]
        varying = {index for index, _ in folded}
        fixed = picker([*named, *(index for index in range(0, len(pieces), 2) if index not in varying)])
        return cls(plan, fixed, fixed(pieces), folded)


class Round(NamedTuple):
    """Strings that are inspected in one context: how to pick them, and the index, path and scope of each."""

    context: Context
    pick: Picker
    strings: list[tuple[int, str, int]]


@dataclass(slots=True, eq=False)
class Plan:
    """Everything to do for a text, by kind of work; the order within a kind is that of the text."""

    scopes: int = 0
    """How many events inside a batch have a consent of their own; scope 0 is the record's."""
    consents: list[Step] = field(default_factory=list)
    said: Picker = _NO_PIECES
    """The pieces that consent depends on."""
    inspections: dict[Context, list[tuple[int, str, int]]] = field(default_factory=dict)
    """Strings to inspect, by what their names say about them: index, path, scope."""
    rounds: list[Round] = field(default_factory=list)
    """The same as `inspections`, ready for use."""
    stamps: list[tuple[int, str, int, Context]] = field(default_factory=list)
    """Times and ids of the event: index, path, scope, and the context to inspect what is neither in."""
    stamped: Picker = _NO_PIECES
    identifiers: list[tuple[int, str, int, Rule]] = field(default_factory=list)
    """Strings that stay with consent: index, path, scope, rule."""
    steps: list[Step] = field(default_factory=list)
    long_numbers: list[LongNumber] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    renamed: list[Renamed] = field(default_factory=list)
    hits: list[tuple[str, str]] = field(default_factory=list)
    """Paths and kinds of containers that count as redacted."""
    ours: bool = False
    """Whether the outermost object has a member that only the engine itself writes."""
    agents: list[tuple[int, str]] = field(default_factory=list)
    """User agents: index, path."""
    addresses: list[tuple[int, str]] = field(default_factory=list)
    """Strings in the column ip_address: index, path."""


def compile_plan(shape: Layout, names: tuple[str, ...], book: RuleBook, outermost: RuleSet) -> Plan:
    """The plan for texts of this layout with these names."""
    plan = Plan()
    plain, anywhere, events = book.plain, book.any, book.event
    inspected: list[tuple[int, str, int]] = []
    plan.inspections[plain] = inspected
    stack: list[tuple[Any, ...]] = []
    is_object = False
    prefix = key = ""
    ordinal = literal = 0
    piece = -1
    rules, scope = outermost, 0
    rule: Rule | None = None
    inherited: Rule | Group | None = None
    group: Group | None = None
    signs = role = 0
    name = iter(names)
    for number, op in enumerate(shape.ops):
        code = op & _CODE
        if code == layout.NAME:
            key = next(name)
            rule = rules[key]
            if len(stack) == 1 and (key in OURS or ("\\" in key and record.unescape(key) in OURS)):
                plan.ours = True
            if rule is not None and rule.names_itself:
                _rename(plan, op >> OP_BITS, key, prefix, ordinal, rule)
                key, rule = f"[{ordinal}]", rule if rule.act == Act.REDACT else None
        elif code == layout.STRING:
            index = op >> OP_BITS
            path = prefix + key if is_object else f"{prefix}[{ordinal}]"
            if rule is None and inherited is None:
                inspected.append((index, path, scope))
                continue
            if rule is not None:
                signs |= rule.sign
            place = Place(index, WHOLE, path, scope)
            group = _string(plan, book, place, key, rule, inherited, group)
        elif code == layout.COMMA:
            ordinal += 1
        elif code == layout.OPEN_OBJECT or code == layout.OPEN_ARRAY:
            if is_object and rule is not None and rule.act == Act.CONTENT and group is None:
                group = Group()
            path = ""
            if stack:
                path = prefix + key if is_object else f"{prefix}[{ordinal}]"
                if len(path) > LONGEST_PATH:
                    path = prefix.rstrip(".")
            stack.append((is_object, prefix, key, ordinal, rules, scope, inherited, group, signs, role, rule))
            opens_object = code == layout.OPEN_OBJECT
            if is_object:
                role = 0
                rules = anywhere
                if rule is not None:
                    role = rule.role
                    if rule.inner is not None:
                        rules = rule.inner
                    elif rule.act == Act.AGENT:
                        plan.hits.append((path, rule.kind))
                if inherited is not None or (rule is not None and rule.act != Act.INSPECT):
                    inherited = _inherited(book, key, rule, inherited, group)
            elif opens_object and rules is events:
                plan.scopes += 1
                scope = plan.scopes
            is_object = opens_object
            prefix = path + "." if is_object and path else path
            ordinal = signs = 0
            group = None
            key = ""
            if is_object or (rule is not None and rule.act not in (Act.INSPECT, Act.NAME)):
                rule = None
        elif code == layout.CLOSE:
            if not is_object and ordinal == 1 and inherited is None and len(stack) > 1 and not stack[-1][0]:
                _entry(plan, shape.ops[number - 4 : number], prefix, literal, scope)
            if group is not None and (group.names or group.contents):
                group.signs, group.role = signs, role
                plan.groups.append(group)
            inner_signs = signs
            (is_object, prefix, key, ordinal, rules, scope, inherited, group, signs, role, rule) = stack.pop()
            if not is_object:
                signs |= inner_signs
        else:
            index = op >> OP_BITS
            literal = literal + 1 if index == piece else 0
            piece = index
            if rule is None and inherited is None and code != layout.LONG_NUMBER:
                continue
            path = prefix + key if is_object else f"{prefix}[{ordinal}]"
            if rule is not None and not (rule.act == Act.SIGNAL or rule.act == Act.PURPOSE):
                signs |= rule.sign
            place = Place(index, literal, path, scope)
            group = _literal(plan, book, place, code, key, rule, inherited, group)
    plan.said = picker(sorted({step.place.piece for step in plan.consents}))
    plan.rounds = [
        Round(context, picker([index for index, _, _ in strings]), strings)
        for context, strings in plan.inspections.items()
        if strings
    ]
    plan.stamped = picker([stamp[0] for stamp in plan.stamps])
    return plan


def _rename(plan: Plan, index: int, key: str, prefix: str, ordinal: int, rule: Rule) -> None:
    """The new name has a number, so that no two members share it."""
    marker = key if redacted(key) else f"[REDACTED:{rule.kind}:{ordinal}]"
    plan.renamed.append(Renamed(index, marker, f"{prefix}[{ordinal}]", rule.kind))


def _entry(plan: Plan, ops: tuple[int, ...], prefix: str, literal: int, scope: int) -> None:
    """Two scalars in an array inside an array are a field of a form, as `[...new FormData(form)]` has them."""
    if ops[0] & _CODE == layout.OPEN_ARRAY and ops[1] & _CODE == layout.STRING:
        ordinal = WHOLE if ops[3] & _CODE == layout.STRING else literal
        content = Place(ops[3] >> OP_BITS, ordinal, f"{prefix}[1]", scope)
        plan.groups.append(Group(labels=[ops[1] >> OP_BITS], contents=[content]))


def _inspect(plan: Plan, place: Place, context: Context) -> None:
    plan.inspections.setdefault(context, []).append((place.piece, place.path, place.scope))


def _inherited(
    book: RuleBook, key: str, rule: Rule | None, inherited: Rule | Group | None, group: Group | None
) -> Rule | Group | None:
    """What an object or array passes on to what stands below it."""
    if rule is not None:
        if rule.act == Act.ADDRESS:
            return book.address
        if rule.act in _PASSED_ON:
            return rule
        if rule.act == Act.CONTENT and not isinstance(inherited, Rule):
            return group
        if rule.act == Act.PURPOSE:
            return None
    if isinstance(inherited, Rule) and book.spared(record.unescape(key)):
        return None
    return inherited


def _ruled(book: RuleBook, key: str, rule: Rule | None, inherited: Rule) -> tuple[Rule | None, bool]:
    """The rule for a member below one with a rule of its own, and whether an earlier run may have reduced it."""
    if inherited.act == Act.AGENT:
        return book.agent, True
    return (rule, False) if key and book.spared(record.unescape(key)) else (inherited, False)


def _string(
    plan: Plan,
    book: RuleBook,
    place: Place,
    key: str,
    rule: Rule | None,
    inherited: Rule | Group | None,
    group: Group | None,
) -> Group | None:
    """Plan for a string with a rule, or in a container with one. Returns the object's group."""
    reduced = False
    if inherited is not None and (rule is None or rule.act in _OUTRANKED):
        if isinstance(inherited, Group):
            inherited.contents.append(place)
            if rule is None or rule.act not in _OF_A_FIELD:
                return group
        else:
            rule, reduced = _ruled(book, key, rule, inherited)
    if rule is None:
        _inspect(plan, place, book.plain)
        return group
    match rule.act:
        case Act.INSPECT:
            _inspect(plan, place, rule.context)
        case Act.STAMP:
            plan.stamps.append((place.piece, place.path, place.scope, rule.context))
        case Act.PURPOSE | Act.SIGNAL:
            plan.consents.append(Step(place, rule))
            _inspect(plan, place, rule.context)
        case Act.IDENTIFIER:
            plan.identifiers.append((place.piece, place.path, place.scope, rule))
        case Act.AGENT if not reduced:
            plan.agents.append((place.piece, place.path))
        case Act.ADDRESS:
            plan.addresses.append((place.piece, place.path))
        case Act.LABEL:
            group = group or Group()
            group.labels.append(place.piece)
            _inspect(plan, place, rule.context)
        case Act.NAME:
            group = group or Group()
            group.names.append(Step(place, rule))
            if not rule.purpose:
                group.labels.append(place.piece)
        case Act.CONTENT:
            group = group or Group()
            group.contents.append(place)
        case _:
            plan.steps.append(Step(place, rule, key if reduced else None))
    return group


def _literal(
    plan: Plan,
    book: RuleBook,
    place: Place,
    code: int,
    key: str,
    rule: Rule | None,
    inherited: Rule | Group | None,
    group: Group | None,
) -> Group | None:
    """Plan for a number, true, false or null. Only numbers can identify; the others are answers in consent objects."""
    if rule is not None and (rule.act == Act.PURPOSE or rule.act == Act.SIGNAL):
        plan.consents.append(Step(place, rule))
        return group
    if code == layout.CONSTANT:
        if rule is not None and rule.act == Act.ADDRESS:
            plan.steps.append(Step(place, rule))
        return group
    if inherited is not None and (rule is None or rule.act in _OUTRANKED):
        if isinstance(inherited, Group):
            inherited.contents.append(place)
            if code == layout.LONG_NUMBER:
                plan.long_numbers.append(LongNumber(place, key, identifiers=True))
            if rule is None or rule.act != Act.CONTENT:
                return group
        else:
            rule, _ = _ruled(book, key, rule, inherited)
    if rule is not None and rule.act == Act.CONTENT:
        group = group or Group()
        group.contents.append(place)
        if code == layout.LONG_NUMBER:
            plan.long_numbers.append(LongNumber(place, key, identifiers=True))
    elif rule is not None and rule.act not in _QUIET:
        plan.steps.append(Step(place, rule))
    elif code == layout.LONG_NUMBER and (rule is None or rule.act != Act.STAMP):
        plan.long_numbers.append(LongNumber(place, key, rule is None or rule.context.identifiers))
    return group
