"""What happens to the members that a rule concerns, and to what must wait for something further on in the record.

Identifiers wait until consent is known, the `name` of something until its neighbours are, and so does the content of a
form field until its label is. `Walk` finds the members; this is what it calls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from pipeline.privacy import agents, consent, health, numbers, people, record, values
from pipeline.privacy.consent import Scope
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.privacy.rules import PERSON, THING, Act, Rule, RuleBook
from pipeline.privacy.shapes import Literals, Shapes
from pipeline.privacy.values import Context, Findings, Values

NO_HASH: Final = '"ip_hash":null,"ip_hash_key_version":null'
_PASSED_ON = frozenset((Act.REDACT, Act.IDENTIFIER, Act.AGENT, Act.ZIP, Act.PSEUDONYM))
_OUTRANKED = frozenset((Act.INSPECT, Act.CONTENT, Act.LABEL, Act.NAME, Act.DATE, Act.AGE))
_LABELLED = frozenset((Act.REDACT, Act.IDENTIFIER, Act.AGENT, Act.ZIP, Act.PSEUDONYM, Act.NAME, Act.DATE, Act.AGE))
_REQUIRED = re.compile(
    r"\W*(?:required|optional|mandatory|pflichtfeld|obligatoire|obligatorio|obligatorisch)?\W*$", re.IGNORECASE
)
_FORM = re.compile("(?:lead_)?(?:form_submit|signup|subscription|lead|registration|contact)$")
_LONGEST_LABEL: Final = 128
_MOST_LABELS: Final = 8192


@dataclass(slots=True)
class Field:
    """A value that waits for its neighbours: where it stands, its path, its rule, and the symbol if it is a number."""

    index: int
    path: str
    rule: Rule | None
    symbol: int = -1


@dataclass(slots=True)
class Neighbours:
    """What an object tells about its own `name`, and about a form field's name and content."""

    label: Rule | None = None
    names: list[Field] = field(default_factory=list)
    contents: list[Field] = field(default_factory=list)


@dataclass(slots=True)
class Engine:
    """What the walks of one policy share."""

    book: RuleBook
    values: Values
    pseudonyms: Pseudonyms
    hash_addresses: bool
    shapes: Shapes = field(default_factory=Shapes)
    literals: Literals = field(default_factory=Literals)
    labels: dict[str, Rule | None] = field(default_factory=dict)


class Members:
    """The pieces of one text and what was done to them. `settle` applies what waited for consent."""

    __slots__ = (
        "_book",
        "_depth",
        "_engine",
        "_numbers",
        "_previous_hash",
        "_texts",
        "_waiting",
        "_waiting_numbers",
        "events",
        "kinds",
        "paths",
        "pieces",
        "scope",
    )

    def __init__(self, engine: Engine, text: str, *, previous_hash: str = NO_HASH, depth: int = 0) -> None:
        self._engine = engine
        self._book = engine.book
        self.pieces = record.cut(text)
        self.scope = Scope()
        self.events: list[Scope] = []
        self.paths: list[str] = []
        self.kinds: list[str] = []
        self._depth = depth
        self._previous_hash = previous_hash
        self._waiting: list[tuple[Scope, Rule, int, str]] = []
        self._waiting_numbers: list[tuple[Scope, Rule, Field]] = []
        self._texts: list[tuple[Scope, int, str, Context, int, set[str] | None, int, int]] = []
        self._numbers: dict[int, dict[int, str]] = {}

    def text(self) -> str:
        """The text as it has become."""
        for index, changes in self._numbers.items():
            self.pieces[index] = _replace_tokens(self.pieces[index], changes)
        return record.join(self.pieces)

    def settle(self, rules: consent.Rules) -> consent.Decision:
        """Remove identifiers that consent doesn't cover, put back those that it does; the record's own decision."""
        consent.merge(self.scope, self.events)
        decision = rules.decide(self.scope)
        for scope, rule, index, path in self._waiting:
            own = decision if scope is self.scope else rules.decide(scope)
            if not (own.marketing if rule.purpose == consent.MARKETING else own.analytics):
                self.pieces[index] = rule.removed
                self.paths.append(path)
                self.kinds.append(rule.kind)
        for scope, rule, place in self._waiting_numbers:
            own = decision if scope is self.scope else rules.decide(scope)
            if not own.allows(rule.purpose):
                self._replace(place, rule)
        for scope, index, body, context, ordinal, alone, first, last in self._texts:
            own = decision if scope is self.scope else rules.decide(scope)
            if not (own.analytics or own.marketing):
                continue
            found = None
            if alone is None or not all(own.allows(purpose) for purpose in alone):
                found = self._engine.values.inspect(body, context, keep=own)
            self.pieces[index] = body if found is None else found.body
            if found is None:
                self.paths[ordinal] = ""
                self.kinds[first:last] = [""] * (last - first)
        return decision

    def settle_inside(self, findings: Findings) -> None:
        """For a text inside a record: identifiers stay as far as the record's decision, if there is one, allows."""
        keep = findings.keep
        for _, rule, index, path in self._waiting:
            if keep is None or not keep.allows(rule.purpose):
                self._replace(Field(index, path, rule), rule)
        for _, rule, place in self._waiting_numbers:
            if keep is None or not keep.allows(rule.purpose):
                self._replace(place, rule)
        for _, index, body, context, *_ in self._texts:
            if keep is not None:
                found = self._engine.values.inspect(body, context, keep=keep, depth=self._depth)
                self.pieces[index] = body if found is None else found.body
        if self._waiting or self._waiting_numbers or self._texts:
            findings.purposes |= {consent.ANALYTICS, consent.MARKETING}
        findings.kinds += self.kinds

    def _inspect(self, index: int, path: str, body: str, context: Context, scope: Scope) -> None:
        found = self._engine.values.inspect(body, context, depth=self._depth)
        if found is not None:
            self.pieces[index] = found.body
            if found.purposes:
                first = len(self.kinds)
                last = first + len(found.kinds)
                self._texts.append((scope, index, body, context, len(self.paths), found.alone, first, last))
            self.paths.append(path)
            self.kinds += found.kinds

    def _hit(self, path: str, kind: str) -> None:
        self.paths.append(path)
        self.kinds.append(kind)

    def _name_of_member(self, index: int, prefix: str, ordinal: int, rule: Rule) -> None:
        """A name that is itself personal: replaced, and numbered so that no two members share it."""
        if not self.pieces[index].startswith("[REDACTED:"):
            self.pieces[index] = f"[REDACTED:{rule.kind}:{ordinal}]"
        self._hit(f"{prefix}[{ordinal}]", rule.kind)

    def _replace(self, place: Field, rule: Rule) -> None:
        """Put the rule's marker, or null for the ids of sessions and visitors, in the place of a string or a number."""
        if place.symbol >= 0:
            self._numbers.setdefault(place.index, {})[place.symbol] = (
                "null" if rule.removed != rule.marker else f'"{rule.marker}"'
            )
        else:
            self.pieces[place.index] = rule.removed
        self._hit(place.path, rule.kind)

    def _inherited(
        self, key: str, rule: Rule | None, inherited: Rule | Neighbours | None, neighbours: Neighbours | None
    ) -> Rule | Neighbours | None:
        """What an object or array passes on to what stands below it."""
        if rule is not None:
            if rule.act == Act.ADDRESS:
                return self._book.address
            if rule.act in _PASSED_ON:
                return rule
            if rule.act == Act.CONTENT and not isinstance(inherited, Rule):
                return neighbours
            if rule.act == Act.PURPOSE:
                return None
        if isinstance(inherited, Rule) and self._book.spared(record.unescape(key)):
            return None
        return inherited

    def _string(
        self,
        place: Field,
        key: str,
        body: str,
        inherited: Rule | Neighbours | None,
        neighbours: Neighbours | None,
        scope: Scope,
    ) -> Neighbours | None:
        """A string whose rule, or whose container's, does more than inspect. Returns the object's neighbours."""
        rule = place.rule
        if not body:
            return neighbours
        if inherited is not None and (rule is None or rule.act in _OUTRANKED):
            if isinstance(inherited, Neighbours):
                inherited.contents.append(place)
                return neighbours
            if inherited.act == Act.AGENT:
                if agents.is_reduced(key, body):
                    return neighbours
                rule = self._book.agent
            elif not (key and self._book.spared(record.unescape(key))):
                rule = inherited
        if rule is None:
            self._inspect(place.index, place.path, body, self._book.plain, scope)
            return neighbours
        match rule.act:
            case Act.LABEL:
                neighbours = neighbours or Neighbours()
                neighbours.label = neighbours.label or self._label(body)
                self._inspect(place.index, place.path, body, rule.context, scope)
            case Act.NAME:
                neighbours = neighbours or Neighbours()
                neighbours.names.append(place)
                if not rule.purpose:
                    neighbours.label = neighbours.label or self._label(body)
            case Act.CONTENT:
                neighbours = neighbours or Neighbours()
                neighbours.contents.append(place)
            case _:
                self._apply(place, rule, scope)
        return neighbours

    def _apply(self, place: Field, rule: Rule, scope: Scope) -> None:
        """Do to a string or number what `rule` says."""
        if place.symbol >= 0:
            self._number(place, rule, scope)
            return
        body = self.pieces[place.index]
        kept = values.redacted(body)
        if kept is not None and rule.act not in (Act.ADDRESS, Act.PSEUDONYM):
            self._hit(place.path, kept)
            return
        match rule.act:
            case Act.REDACT | Act.NAME:
                self.pieces[place.index] = rule.marker
                self._hit(place.path, rule.kind)
            case Act.IDENTIFIER:
                self._waiting.append((scope, rule, place.index, place.path))
            case Act.AGENT:
                self.pieces[place.index] = values.reduced_agent(body)
                self._hit(place.path, rule.kind)
            case Act.PSEUDONYM:
                self.pieces[place.index] = self._pseudonym(record.unescape(body))
                self._hit(place.path, rule.kind)
            case Act.ADDRESS:
                self.pieces[place.index] = record.bare(self._address(record.unescape(body)))
                self._hit(place.path, rule.kind)
            case Act.ZIP:
                digits = health.zip_code(body)
                self.pieces[place.index] = rule.marker if digits is None else digits
                if digits != body:
                    self._hit(place.path, rule.kind)
            case Act.DATE | Act.AGE:
                new = health.date_or_age(body)
                if new is None:
                    self._inspect(place.index, place.path, body, rule.context, scope)
                else:
                    self.pieces[place.index] = new
                    self._hit(place.path, rule.kind)
            case Act.PURPOSE:
                scope.say(rule.purpose, consent.is_yes(body))
                self._inspect(place.index, place.path, body, rule.context, scope)
            case Act.SIGNAL:
                if consent.is_yes(body):
                    scope.signal(rule.purpose)
            case Act.SKIP:
                pass
            case _:
                self._inspect(place.index, place.path, body, rule.context, scope)

    def _literal(
        self,
        place: Field,
        symbol: str,
        key: str,
        inherited: Rule | Neighbours | None,
        neighbours: Neighbours | None,
        scope: Scope,
    ) -> Neighbours | None:
        """A number, true, false or null. Only numbers can identify; true is an answer in consent objects."""
        rule = place.rule
        if symbol in ("true", "false", "null"):
            if rule is None:
                return neighbours
            if rule.act == Act.PURPOSE and symbol != "null":
                scope.say(rule.purpose, symbol == "true")
            elif rule.act == Act.SIGNAL and symbol == "true":
                scope.signal(rule.purpose)
            elif rule.act == Act.ADDRESS and symbol == "null":
                self._numbers.setdefault(place.index, {})[place.symbol] = self._address("")
            return neighbours
        if inherited is not None and (rule is None or rule.act in _OUTRANKED):
            if isinstance(inherited, Neighbours):
                inherited.contents.append(place)
                return neighbours
            if inherited.act == Act.AGENT:
                rule = self._book.agent
            elif not (key and self._book.spared(record.unescape(key))):
                rule = inherited
        if rule is not None and rule.act == Act.CONTENT:
            neighbours = neighbours or Neighbours()
            neighbours.contents.append(place)
        elif rule is not None and rule.act not in (Act.INSPECT, Act.LABEL, Act.NAME, Act.SKIP):
            self._number(place, rule, scope, symbol)
        elif rule is None or rule.act != Act.SKIP:
            kind = (
                numbers.kind(symbol, key, identifiers=rule is None or rule.context.identifiers)
                if symbol.isdigit()
                else None
            )
            if kind:
                self._numbers.setdefault(place.index, {})[place.symbol] = f'"[REDACTED:{kind}]"'
                self._hit(place.path, kind)
        return neighbours

    def _number(self, place: Field, rule: Rule, scope: Scope, symbol: str = "") -> None:
        symbol = symbol or self._engine.shapes[self.pieces[place.index]][place.symbol]
        match rule.act:
            case Act.IDENTIFIER:
                self._waiting_numbers.append((scope, rule, place))
                return
            case Act.PSEUDONYM:
                new = f'"{self._pseudonym(symbol)}"'
            case Act.ADDRESS:
                new = self._address("")
            case Act.ZIP:
                new = f'"{health.zip_code(symbol.zfill(5)) or rule.marker}"'
            case Act.DATE | Act.AGE:
                answer = health.date_or_age(symbol)
                if answer is None:
                    return
                new = f'"{answer}"'
            case Act.REDACT if rule.kind == "free_text":
                return
            case Act.PURPOSE:
                scope.say(rule.purpose, symbol == "1")
                return
            case Act.SIGNAL:
                if symbol == "1":
                    scope.signal(rule.purpose)
                return
            case _:
                new = f'"{rule.marker}"'
        self._numbers.setdefault(place.index, {})[place.symbol] = new
        self._hit(place.path, rule.kind)

    def _label(self, body: str) -> Rule | None:
        """The rule of a form field that is called `body`; a name that we have redacted ourselves says nothing."""
        if "[REDACTED:" in body:
            return None
        labels = self._engine.labels
        if body not in labels:
            rule = self._book.rule(_REQUIRED.sub("", record.unescape(body)[:_LONGEST_LABEL]))
            answer = rule if rule is not None and rule.act in _LABELLED else None
            if len(body) > _LONGEST_LABEL:
                return answer
            if len(labels) >= _MOST_LABELS:
                labels.clear()
            labels[body] = answer
        return labels[body]

    def _meet(self, neighbours: Neighbours, signs: int, role: int, scope: Scope) -> None:
        """All members of an object are known: decide on its name and on its content."""
        label = neighbours.label
        for place in neighbours.contents:
            if label is not None:
                self._apply(place, label, scope)
            elif place.symbol < 0:
                self._inspect(place.index, place.path, self.pieces[place.index], self._book.plain, scope)
        for place in neighbours.names:
            rule = place.rule
            body = self.pieces[place.index]
            if (
                rule is not None
                and (not neighbours.contents or label is None)
                and self._person(rule, body, signs, role)
            ):
                self._apply(place, rule, scope)
            else:
                self._inspect(place.index, place.path, body, self._book.text, scope)

    def _person(self, rule: Rule, body: str, signs: int, role: int) -> bool:
        if values.redacted(body) is not None or role == PERSON or signs & PERSON:
            return True
        if rule.purpose or role == THING or signs & THING:
            return False
        return self._is_form() or people.looks_like_person(record.unescape(body))

    def _is_form(self) -> bool:
        """Whether the column event_type, a scalar and hence in front of all nested members, names a form."""
        return any(_FORM.match(piece) for piece in self.pieces[3:60:2])

    def _pseudonym(self, value: str) -> str:
        return self._engine.pseudonyms.identifier(value)

    def _address(self, ip: str) -> str:
        """null, with the hash beside it where the level has one."""
        pseudonyms = self._engine.pseudonyms
        if self._book.hipaa:
            return "null"
        if not self._engine.hash_addresses or not ip:
            return f"null,{self._previous_hash}"
        return (
            f'null,"ip_hash":"{pseudonyms.address(ip.removesuffix("/32"))}","ip_hash_key_version":{pseudonyms.version}'
        )


def _replace_tokens(piece: str, changes: dict[int, str]) -> str:
    ordinals = count()
    return record.TOKENS.sub(lambda match: changes.get(next(ordinals), match[0]), piece)
