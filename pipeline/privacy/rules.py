"""The rules of a level: what happens to a member, by its name and by where it stands.

A rule set is a dictionary from the raw name to its rule, None for names without one; it classifies a name when it
meets it for the first time and forgets everything when too many were met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pipeline.clients import PrivacyLevel
from pipeline.privacy import consent, names, record, vicinity, words
from pipeline.privacy.findings import Context
from pipeline.privacy.shapes import unquoted


class Act:
    """What a rule does to the value of its member. Plain numbers: the walk compares them for every member."""

    INSPECT: Final = 0  # nothing but the detectors, in the rule's context
    REDACT: Final = 1
    AGENT: Final = 2
    IDENTIFIER: Final = 3  # kept with consent for the rule's purpose, else removed
    PSEUDONYM: Final = 4
    ADDRESS: Final = 5  # the column ip_address
    LABEL: Final = 7  # perhaps the name of a form field, whose content stands beside it
    CONTENT: Final = 8  # perhaps the content of a form field, whose name stands beside it
    NAME: Final = 9  # of a person or of a thing, as its neighbours tell
    ZIP: Final = 10
    DATE: Final = 11
    AGE: Final = 12
    PURPOSE: Final = 13  # an answer in a consent object
    SIGNAL: Final = 14  # gpc or dnt
    STAMP: Final = 15  # the event's own time or id, as long as it is one


UNEXAMINED: Final = "\x03"
"""Stands for a member's name where a text has too many to examine. No name in a record is a control character."""

PERSON = 1
THING = 2
FORM = 3
"""What somebody put into a form: a `name` in it is theirs, unless it labels a value."""


@dataclass(slots=True, eq=False)
class Rule:
    """One rule. `sign` and `role` say what its presence, or an object under it, tells of names nearby."""

    act: int
    context: Context
    kind: str = ""
    purpose: str = ""
    sign: int = 0
    role: int = 0
    inner: RuleSet | None = None
    names_itself: bool = False
    """Whether the name of the member is what must go."""
    marker: str = field(init=False)
    nulled: bool = field(init=False)
    """Whether null stands for an identifier without consent, as for those of sessions and visitors, or the marker."""

    def __post_init__(self) -> None:
        self.marker = f"[REDACTED:{self.kind}]"
        self.nulled = self.kind in ("session_id", "visitor_id")


class RuleSet(dict[str, "Rule | None"]):
    """Rules by raw member name (with `record`'s stand-ins for escapes)."""

    def __init__(self, book: RuleBook, fixed: dict[str, Rule], size: int = 8192) -> None:
        super().__init__(fixed)
        self._book = book
        self._fixed = fixed
        self._size = size

    def __missing__(self, raw: str) -> Rule | None:
        # Asked first, since another thread may be emptying the dictionary.
        rule = self._fixed[raw] if raw in self._fixed else self._book.rule(record.unescape(raw))
        if len(raw) <= 128:
            if len(self) >= self._size:
                self.clear()
            self[raw] = rule
        return rule

    __hash__ = object.__hash__  # type: ignore[assignment]  # rule sets are told apart by identity


class Below(RuleSet):
    """Rules for the members of an object whose name says what they are: `id` below `user` is a `user id`."""

    def __init__(self, book: RuleBook, owner: str) -> None:
        super().__init__(book, {}, size=512)
        self._owner = owner

    def __missing__(self, raw: str) -> Rule | None:
        rule = self._book.any[raw]
        if rule is None or rule.act in _VAGUE:
            qualified = self._book.rule(f"{self._owner} {record.unescape(raw)}")
            if qualified is not None and qualified.act not in _VAGUE and qualified.act != Act.NAME:
                rule = qualified
        if len(raw) <= 128:
            if len(self) >= self._size:
                self.clear()
            self[raw] = rule
        return rule

    __hash__ = object.__hash__


_VAGUE = frozenset((Act.INSPECT, Act.LABEL, Act.CONTENT))


class Parameters(dict[str, bool]):
    """Whether the name of a parameter in a query, as it is written there, has a rule that does something."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules

    def __missing__(self, name: str) -> bool:
        rule = self._rules[record.escape(unquoted(name))]
        answer = rule is not None and rule.act != Act.INSPECT
        if len(name) <= 128:
            if len(self) >= 8192:
                self.clear()
            self[name] = answer
        return answer


_LABELS = words.table(vicinity.FIELD_LABELS)
_CONTENTS = words.table(vicinity.FIELD_CONTENTS)
_STAMPS = ("id", "event_id", "batch_id", "timestamp", "created_at")
_VERSIONS = words.table(vicinity.VERSIONS)
_THING_NUMBERS = words.table(vicinity.THING_NUMBERS)


_THING_TEXTS = words.table(vicinity.THING_TEXTS)
_QUALIFIERS = words.table(vicinity.QUALIFIERS)
_PERSON_TEXTS = words.table(vicinity.PERSON_TEXTS)
_ID_TAILS = words.table(vicinity.ID_TAILS)


@lru_cache(maxsize=4096)
def _thing_number(name: str) -> bool:
    """Whether what stands under this name numbers a thing: `order`, `branchId`, but not `pageTitle`.

    Ids of people have rules of their own, so any other id is that of a thing.
    """
    parts = [part for part in names.split(name) if not part.isdigit()]
    if not parts:
        return False
    if len(parts) == 1 and parts[0] in _THING_TEXTS:
        return False
    return (
        parts[-1] in _THING_NUMBERS
        or parts[-1] in ("id", "ids")
        or (parts[0] in _THING_NUMBERS and parts[-1] in _ID_TAILS)
    )


class RuleBook:
    """All rule sets of one level; `any` holds at any depth, the others extend it at one place."""

    def __init__(self, level: PrivacyLevel) -> None:
        self.hipaa = level is PrivacyLevel.HIPAA
        self.name_kind: Callable[[str], str | None] = lambda _: None
        self.plain = Context(free_text=self.hipaa)
        self.text = Context()
        self.versions = Context(versions=True)
        self.numbers = Context(identifiers=False)
        self.any = RuleSet(self, {})
        self._below: dict[str, Below] = {}
        self.consent = RuleSet(
            self,
            {name: Rule(Act.PURPOSE, self.plain, purpose=purpose) for name, purpose in consent.PURPOSES.items()}
            | self._signals(),
        )
        event: dict[str, Rule] = {
            "consent": Rule(Act.PURPOSE, self.plain, purpose=consent.EVERYTHING, inner=self.consent),
            "timestamp": Rule(Act.STAMP, self.plain),
            **self._signals(),
        }
        self.parameters = Parameters(self.any)
        self.event = RuleSet(self, event)
        event["events"] = self.event["events"] = Rule(Act.INSPECT, self.plain, inner=self.event, role=THING)
        address = {"ip_address": Rule(Act.ADDRESS, self.plain, kind="ip")}
        self.page = RuleSet(self, event | address)
        self.column = RuleSet(
            self,
            {name: Rule(Act.STAMP, self.numbers) for name in _STAMPS}
            | address
            | {
                "client_id": Rule(Act.INSPECT, self.numbers),
                "raw_event_data": Rule(Act.INSPECT, self.plain, inner=self.event),
            },
        )
        self.address = Rule(Act.REDACT, self.plain, kind="ip")
        self.agent = Rule(Act.REDACT, self.plain, kind="user_agent")
        self.unexamined = Rule(Act.REDACT, self.plain, kind="unexamined", names_itself=True)

    def rule(self, name: str) -> Rule | None:
        """The rule for a member called `name` at any depth."""
        rule = self._rule(name)
        owner = names.owner(name)
        if owner in _QUALIFIERS:
            rule = rule or Rule(Act.INSPECT, self.plain)
            rule.inner = self._below.get(owner)
            if rule.inner is None:
                rule.inner = self._below[owner] = Below(self, owner)
        return rule

    def _rule(self, name: str) -> Rule | None:
        if name == UNEXAMINED:
            return self.unexamined
        kind = self.name_kind(name)
        if kind:
            return Rule(Act.INSPECT, self.plain, kind=kind, names_itself=True, sign=PERSON)
        found = names.classify(name)
        if found is None:
            return self._unnamed(name)
        group, kind = found
        if group == "hipaa":
            group = "pii" if self.hipaa else "none"
        match group:
            case "pii" | "ip":
                return Rule(
                    Act.REDACT, self.plain, kind=kind, sign=PERSON if group == "pii" else 0, role=self._role(name)
                )
            case "zip":
                return Rule(Act.ZIP if self.hipaa else Act.REDACT, self.plain, kind=kind, sign=PERSON)
            case "agent":
                return Rule(Act.AGENT, self.plain, kind=kind)
            case "click" | "user":
                purpose = consent.MARKETING if group == "click" else consent.ANALYTICS
                return Rule(Act.REDACT if self.hipaa else Act.IDENTIFIER, self.plain, kind=kind, purpose=purpose)
            case "session" | "visitor":
                act = Act.PSEUDONYM if self.hipaa else Act.IDENTIFIER
                return Rule(act, self.plain, kind=kind, purpose=consent.ANALYTICS)
            case "name":
                return Rule(Act.NAME, self.plain, kind=kind, role=PERSON)
            case "date" if self.hipaa:
                return Rule(Act.DATE, self.plain, kind=kind)
            case "age" if self.hipaa:
                return Rule(Act.AGE, self.plain, kind=kind)
            case "free" if self.hipaa:
                return Rule(Act.REDACT, self.plain, kind=kind)
            case _:
                return self._unnamed(name)

    def spared(self, name: str) -> bool:
        """Whether a member below `email`, `address` or the like says something else, such as its type or country."""
        found = names.classify(name)
        return (
            names.neutral(name) or names.text_allowed(name) or (found is not None and found.group in ("hipaa", "age"))
        )

    def _unnamed(self, name: str) -> Rule | None:
        folded = "".join(names.split(name))
        if folded in vicinity.BESIDE_PEOPLE:
            return Rule(Act.NAME, self.plain, kind=vicinity.BESIDE_PEOPLE[folded], purpose="part")
        if folded in _PERSON_TEXTS:
            return Rule(Act.NAME, self.plain, kind="name", purpose="whole", role=PERSON)
        if folded in _LABELS or folded == "id":
            return Rule(Act.LABEL, self.numbers if folded == "id" else self.plain)
        if folded in _CONTENTS:
            return Rule(Act.CONTENT, self.plain)
        sign = THING if names.thing_sign(name) else 0
        context = self.plain
        if folded in _VERSIONS or folded.endswith("version"):
            context = self.versions
        elif _thing_number(name):
            context = self.numbers
        elif self.hipaa and names.text_allowed(name):
            context = self.text
        role = self._role(name)
        if sign or role or context is not self.plain:
            return Rule(Act.INSPECT, context, sign=sign, role=role)
        return None

    @staticmethod
    def _role(name: str) -> int:
        return PERSON if names.people(name) else FORM if names.forms(name) else THING if names.things(name) else 0

    def _signals(self) -> dict[str, Rule]:
        return {name: Rule(Act.SIGNAL, self.plain, purpose=signal) for name, signal in consent.SIGNALS.items()}
