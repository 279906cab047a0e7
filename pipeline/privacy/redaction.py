"""A text and what is done to it: the plan for its layout and names, carried out over its values.

Consent comes first, because what may stay depends on it; then every string and literal in the plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.privacy import agents, consent, health, layout, numbers, people, record, shapes
from pipeline.privacy.consent import Decision, Scope
from pipeline.privacy.findings import Context, Findings
from pipeline.privacy.plan import WHOLE, Group, Place, Plan
from pipeline.privacy.plans import Plans
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.privacy.rules import FORM, PERSON, THING, Act, Rule, RuleSet
from pipeline.privacy.values import Values

NO_HASH: Final = '"ip_hash":null,"ip_hash_key_version":null'

_LABELLED = frozenset((Act.REDACT, Act.IDENTIFIER, Act.AGENT, Act.ZIP, Act.PSEUDONYM, Act.NAME, Act.DATE, Act.AGE))
_REQUIRED = re.compile(
    r"\W*(?:required|optional|mandatory|pflichtfeld|obligatoire|obligatorio|obligatorisch)?\W*$", re.IGNORECASE
)
_FORM = re.compile("(?:lead_)?(?:form_submit|signup|subscription|lead|registration|contact)$")
_LONGEST_LABEL: Final = 128
_MOST_LABELS: Final = 8192
_MOST_ANSWERS: Final = 1024
_LONGEST_ANSWER: Final = 400
"""Characters of what is said on consent in a text whose answer is kept."""


class Answer(NamedTuple):
    """What a text says about consent, and what follows: the decision for each scope, the member to print."""

    allowed: list[Decision]
    printed: str


@dataclass(slots=True)
class Engine:
    """What all texts of one policy share. `plans` is common to the policies of a level."""

    plans: Plans
    values: Values
    pseudonyms: Pseudonyms
    hash_addresses: bool
    labels: dict[str, Rule | None] = field(default_factory=dict)
    answers: dict[tuple[Plan, tuple[str, ...]], Answer] = field(default_factory=dict)


class Redaction:
    """One text, cut into pieces, and what was found in it: `paths` and `kinds`."""

    __slots__ = (
        "_allowed",
        "_bare",
        "_depth",
        "_engine",
        "_literals",
        "_plan",
        "_previous_hash",
        "kinds",
        "paths",
        "pieces",
    )

    def __init__(self, engine: Engine, text: str, outermost: RuleSet, *, previous_hash: str = NO_HASH) -> None:
        """Raises UnparsableRecord when `text` is no JSON object or array."""
        self._engine = engine
        self.pieces = record.cut(text)
        self._plan: Plan = engine.plans.plan(self.pieces, outermost)
        self._allowed: list[Decision] = []
        self._bare: set[int] = set()
        self.paths: list[str] = []
        self.kinds: list[str] = []
        self._depth = 0
        self._previous_hash = previous_hash
        self._literals: dict[int, dict[int, str]] = {}

    @property
    def ours(self) -> bool:
        """Whether the text may have members of an earlier run, which must be taken out first."""
        return self._plan.ours

    def decide(self, rules: consent.Rules) -> Answer:
        """Read what the record and its events say about consent; the record's own decision is the first."""
        plan, answers = self._plan, self._engine.answers
        said = plan.said(self.pieces)
        answer = answers.get((plan, said))
        if answer is None:
            answer = self._decide(rules)
            if sum(map(len, said)) + plan.scopes <= _LONGEST_ANSWER:
                if len(answers) >= _MOST_ANSWERS:
                    answers.clear()
                answers[plan, said] = answer
        self._allowed = answer.allowed
        return answer

    def _decide(self, rules: consent.Rules) -> Answer:
        plan, pieces, literals = self._plan, self.pieces, self._engine.plans.literals
        scopes = [Scope()]
        for _ in range(plan.scopes):
            scopes.append(Scope(parent=scopes[0]))
        for (index, literal, _, number), rule, _ in plan.consents:
            said = pieces[index] if literal == WHOLE else literals[pieces[index]][literal]
            if rule.act == Act.SIGNAL:
                if said != "false" and consent.is_yes(said):
                    scopes[number].signal(rule.purpose)
            elif said and not (said == "null" and literal != WHOLE):
                scopes[number].say(rule.purpose, said == "true" or consent.is_yes(said))
        if plan.scopes:
            consent.merge(scopes[0], scopes[1:])
        allowed = [rules.decide(scope) for scope in scopes]
        return Answer(allowed, consent.printed(scopes[0], allowed[0]))

    def inside(self, findings: Findings, depth: int) -> None:
        """For a text inside a record: the record's decision counts, whatever the text says."""
        self._allowed = [findings.keep] * (self._plan.scopes + 1)
        self._depth = depth

    def run(self) -> None:
        """Carry out the plan."""
        plan, pieces, allowed = self._plan, self.pieces, self._allowed
        paths, kinds = self.paths, self.kinds
        harmless, examine = self._engine.values.harmless, self._engine.values.examine
        identifier, are_stamps = self._engine.pseudonyms.identifier, shapes.are_stamps
        for usual, pick, strings in plan.rounds:
            context = self._engine.values.context(usual)
            clean = context.clean
            for body, string in zip(pick(pieces), strings):  # noqa: B905  # a keyword costs; both have one length
                # An address with a query is looked at in two parts; harmless as a whole it can't be.
                if body not in clean and ("?" in body or not harmless(body, context)):
                    index, path, scope = string
                    found = examine(body, context, allowed[scope], self._depth)
                    if found is not None:
                        pieces[index] = found.body
                        paths.append(path)
                        kinds += found.kinds
        for index, path, scope, rule in plan.identifiers:
            body = pieces[index]
            if not body:
                continue
            kept = shapes.redacted(body) if body[0] == "[" else None
            if kept is not None:
                self._hit(path, kept)
            elif not (allowed[scope].marketing if rule.purpose == consent.MARKETING else allowed[scope].analytics):
                if rule.nulled:
                    pieces[index] = "null"
                    self._bare.add(index)
                else:
                    pieces[index] = rule.marker
                paths.append(path)
                kinds.append(rule.kind)
        for index, path in plan.agents:
            body = pieces[index]
            if body:
                kept = shapes.redacted(body) if body[0] == "[" else None
                if kept is None:
                    pieces[index] = agents.reduced(body)
                    self._bare.add(index)
                paths.append(path)
                kinds.append(kept or "user_agent")
        for index, path in plan.addresses:
            body = pieces[index]
            if body:
                pieces[index] = self._address(record.unescape(body))
                self._bare.add(index)
                self._hit(path, "ip")
        for place, rule, member in plan.steps:
            if place.literal != WHOLE:
                self._number(place, rule)
            elif rule.act == Act.PSEUDONYM:
                body = pieces[place.piece]
                if body:
                    pieces[place.piece] = identifier(record.unescape(body))
                    self._hit(place.path, rule.kind)
            elif pieces[place.piece] and not (member is not None and agents.is_reduced(member, pieces[place.piece])):
                self._apply(place, rule)
        if not are_stamps('"'.join(plan.stamped(pieces))):
            for index, path, scope, context in plan.stamps:
                if not shapes.is_stamp(pieces[index]):
                    self._inspect(index, path, scope, context)
        for place, name, identifiers in plan.long_numbers:
            kind = numbers.kind(self._literal(place), name, identifiers=identifiers)
            if kind:
                self._change(place, f'"[REDACTED:{kind}]"')
                self._hit(place.path, kind)
        for group in plan.groups:
            self._meet(group)
        for index, marker, path, kind in plan.renamed:
            pieces[index] = marker
            self._hit(path, kind)
        for path, kind in plan.hits:
            self._hit(path, kind)

    def text(self) -> str:
        """The text as it has become."""
        for index, changes in self._literals.items():
            self.pieces[index] = layout.replace_literals(self.pieces[index], changes)
        return record.join(self.pieces, self._bare)

    def _hit(self, path: str, kind: str) -> None:
        self.paths.append(path)
        self.kinds.append(kind)

    def _literal(self, place: Place) -> str:
        return self._engine.plans.literals[self.pieces[place.piece]][place.literal]

    def _change(self, place: Place, new: str) -> None:
        self._literals.setdefault(place.piece, {})[place.literal] = new

    def _inspect(self, index: int, path: str, scope: int, context: Context) -> None:
        detectors = self._engine.values
        found = detectors.inspect(self.pieces[index], detectors.context(context), self._allowed[scope], self._depth)
        if found is not None:
            self.pieces[index] = found.body
            self.paths.append(path)
            self.kinds += found.kinds

    def _apply(self, place: Place, rule: Rule) -> None:
        """Do to a string that isn't empty what `rule` says."""
        body = self.pieces[place.piece]
        kept = shapes.redacted(body)
        if kept is not None and rule.act != Act.PSEUDONYM:
            self._hit(place.path, kept)
            return
        match rule.act:
            case Act.REDACT | Act.NAME:
                new = rule.marker
            case Act.IDENTIFIER:
                if self._allowed[place.scope].allows(rule.purpose):
                    return
                new = "null" if rule.nulled else rule.marker
                if rule.nulled:
                    self._bare.add(place.piece)
            case Act.AGENT:
                new = agents.reduced(body)
                self._bare.add(place.piece)
            case Act.PSEUDONYM:
                new = self._engine.pseudonyms.identifier(record.unescape(body))
            case Act.ZIP:
                new = health.zip_code(body) or rule.marker
                if new == body:
                    return
            case Act.DATE | Act.AGE:
                new = (health.date if rule.act == Act.DATE else health.age)(body) or ""
            case _:
                new = ""
        if not new:
            self._inspect(place.piece, place.path, place.scope, rule.context)
            return
        self.pieces[place.piece] = new
        self._hit(place.path, rule.kind)

    def _number(self, place: Place, rule: Rule) -> None:
        """Do to a literal what `rule` says: it becomes a string, or null."""
        symbol = self._literal(place)
        if rule.act != Act.ADDRESS and symbol[0] not in "-0123456789":
            return
        match rule.act:
            case Act.IDENTIFIER:
                if self._allowed[place.scope].allows(rule.purpose):
                    return
                new = "null" if rule.nulled else f'"{rule.marker}"'
            case Act.PSEUDONYM:
                new = f'"{self._engine.pseudonyms.identifier(symbol)}"'
            case Act.ADDRESS:
                new = self._address("")
            case Act.ZIP:
                new = f'"{health.zip_code(symbol.zfill(5)) or rule.marker}"'
            case Act.DATE | Act.AGE:
                answer = (health.date if rule.act == Act.DATE else health.age)(symbol)
                if answer is None:
                    return
                new = f'"{answer}"'
            case Act.REDACT if rule.kind == "free_text":
                return
            case _:
                new = f'"{rule.marker}"'
        self._change(place, new)
        if symbol != "null":
            self._hit(place.path, rule.kind)

    def _label(self, body: str) -> Rule | None:
        """The rule of a form field that is called `body`; a name that we have redacted ourselves says nothing."""
        if not body or "[REDACTED:" in body:
            return None
        labels = self._engine.labels
        if body not in labels:
            book = self._engine.plans.book
            rule = book.rule(_REQUIRED.sub("", record.unescape(body)[:_LONGEST_LABEL]))
            answer = rule if rule is not None and rule.act in _LABELLED else None
            if len(body) > _LONGEST_LABEL:
                return answer
            if len(labels) >= _MOST_LABELS:
                labels.clear()
            labels[body] = answer
            return answer
        return labels[body]

    def _meet(self, group: Group) -> None:
        """All members of an object are known: decide on its name and on its content."""
        pieces, book = self.pieces, self._engine.plans.book
        contents = [place for place in group.contents if place.literal != WHOLE or pieces[place.piece]]
        labels = (self._label(pieces[index]) for index in group.labels) if contents else ()
        label = next(filter(None, labels), None)
        for place in contents:
            if place.literal != WHOLE:
                if label is not None:
                    self._number(place, label)
            elif label is not None:
                self._apply(place, label)
            else:
                self._inspect(place.piece, place.path, place.scope, book.plain)
        for place, rule, _ in group.names:
            body = pieces[place.piece]
            if body and (not contents or label is None) and self._person(rule, body, group, labels=bool(contents)):
                self._apply(place, rule)
            elif body:
                self._inspect(place.piece, place.path, place.scope, book.text)

    def _person(self, rule: Rule, body: str, group: Group, *, labels: bool) -> bool:
        """Whether `body` names a person. `labels`: a value stands beside it, as in a field of a form."""
        if shapes.redacted(body) is not None:
            return True
        if rule.purpose != "whole":
            if group.role == PERSON or group.signs & PERSON:
                return True
            if group.role == THING or group.signs & THING:
                return False
            if not labels and (group.role == FORM or self._is_form()):
                return True
        return rule.purpose != "part" and people.looks_like_person(record.unescape(body))

    def _is_form(self) -> bool:
        """Whether the column event_type, a scalar and hence in front of all nested members, names a form."""
        return any(_FORM.match(piece) for piece in self.pieces[3:60:2])

    def _address(self, ip: str) -> str:
        """null, with the hash beside it where the level has one."""
        engine = self._engine
        if engine.plans.book.hipaa:
            return "null"
        if not engine.hash_addresses or not ip:
            return f"null,{self._previous_hash}"
        pseudonyms = engine.pseudonyms
        return (
            f'null,"ip_hash":"{pseudonyms.address(ip.removesuffix("/32"))}","ip_hash_key_version":{pseudonyms.version}'
        )
