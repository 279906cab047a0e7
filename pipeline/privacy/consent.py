"""Consent: what the visitor allowed, read from the event, and what follows from it under the client's settings.

`analytics` covers the ids of session, visitor and user; `marketing` covers click ids. What isn't granted is refused:
no consent object, a purpose that it doesn't name, a value that isn't understood. Two contradicting answers are a
refusal. A gpc signal refuses everything, and so does dnt for clients who say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.clients import Client, ConsentMode

ANALYTICS = "analytics"
MARKETING = "marketing"
EVERYTHING = "everything"

PURPOSES = {
    **dict.fromkeys(("analytics", "analytics_storage", "statistics", "performance", "measurement"), ANALYTICS),
    **dict.fromkeys(("marketing", "ad_storage", "advertising", "ads", "targeting", "ad_user_data"), MARKETING),
    **dict.fromkeys(("all", "granted", "given", "accepted", "status"), EVERYTHING),
}
"""Purposes by member name of a consent object."""

SIGNALS = {
    **dict.fromkeys(("gpc", "globalPrivacyControl", "global_privacy_control", "sec_gpc"), "gpc"),
    **dict.fromkeys(("dnt", "doNotTrack", "do_not_track"), "dnt"),
}
"""Signals of the browser by member name."""

_YES = frozenset(
    ("true", "1", "yes", "y", "granted", "grant", "allowed", "allow", "accepted", "accept", "given", "on", "all")
) | frozenset(("opt_in", "opt-in", "optin"))

# Bases under which nobody can object (GDPR Art. 21(1) knows the right for public task and legitimate interests only).
_NO_OBJECTION = frozenset(("contract", "legal_obligation", "vital_interests"))


def is_yes(value: str) -> bool:
    """Whether a value, a JSON literal or the body of a string, says yes."""
    return value in _YES or value.strip().lower() in _YES


@dataclass(slots=True)
class Scope:
    """What one event says about consent. `parent` is the batch it came in."""

    parent: Scope | None = None
    analytics: bool | None = None
    marketing: bool | None = None
    gpc: bool = False
    dnt: bool = False

    def say(self, purpose: str, granted: bool) -> None:
        """Note an answer; a refusal stays, whatever is said later."""
        if purpose != MARKETING:
            self.analytics = granted and self.analytics is not False
        if purpose != ANALYTICS:
            self.marketing = granted and self.marketing is not False

    def signal(self, name: str) -> None:
        """Note a gpc or dnt signal."""
        if name == "gpc":
            self.gpc = True
        else:
            self.dnt = True

    @property
    def spoken(self) -> bool:
        """Whether the event says anything about a purpose."""
        return self.analytics is not None or self.marketing is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """What may stay. `status` is granted, refused, absent or not_required."""

    analytics: bool
    marketing: bool
    status: str

    def allows(self, purpose: str) -> bool:
        """Whether what serves `purpose` may stay."""
        return self.marketing if purpose == MARKETING else self.analytics


@dataclass(frozen=True, slots=True)
class Rules:
    """The client's settings, as far as they concern consent."""

    required: bool
    objections: bool
    dnt_is_refusal: bool
    drop: bool
    _known: dict[tuple[bool | None, ...], Decision] = field(default_factory=dict, compare=False)
    """Decisions by what was said: 36 at most."""

    @classmethod
    def of(cls, client: Client) -> Rules:
        """Consent is needed unless the client needs none or names another lawful basis."""
        basis = client.lawful_basis.strip().lower().replace(" ", "_").replace("-", "_")
        return cls(
            required=client.consent_required and basis in ("", "consent"),
            objections=basis not in _NO_OBJECTION,
            dnt_is_refusal=client.dnt_is_refusal,
            drop=client.consent_mode is ConsentMode.DROP,
        )

    def decide(self, scope: Scope) -> Decision:
        """What follows from `scope`, or from its batch where it says nothing itself."""
        if scope.parent is not None:
            return self._decide(scope)
        asked = (scope.analytics, scope.marketing, scope.gpc, scope.dnt)
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = self._decide(scope)
        return known

    def _decide(self, scope: Scope) -> Decision:
        said = scope if scope.spoken or scope.parent is None else scope.parent
        signals = (scope,) if scope.parent is None else (scope, scope.parent)
        refused = any(one.gpc or (self.dnt_is_refusal and one.dnt) for one in signals)
        if refused and (self.required or self.objections):
            return Decision(False, False, "refused")
        if not self.required:
            return Decision(True, True, "not_required")
        if not said.spoken:
            return Decision(False, False, "absent")
        analytics, marketing = said.analytics is True, said.marketing is True
        return Decision(analytics, marketing, "granted" if analytics or marketing else "refused")


def printed(scope: Scope, decision: Decision) -> str:
    """The `consent` member of `privacy`, as JSON."""
    return _printed(decision.status, decision.analytics, decision.marketing, scope.gpc, scope.dnt)


@lru_cache(maxsize=256)
def _printed(status: str, analytics: bool, marketing: bool, gpc: bool, dnt: bool) -> str:
    return (
        f'{{"status":"{status}","analytics":{_json(analytics)},"marketing":{_json(marketing)}'
        f',"gpc":{_json(gpc)},"dnt":{_json(dnt)}}}'
    )


def merge(record: Scope, events: list[Scope]) -> None:
    """A batch without a word on consent says what all of its events say."""
    if not record.spoken and events and all(event.spoken for event in events):
        record.analytics = all(event.analytics for event in events)
        record.marketing = all(event.marketing for event in events)
    record.gpc = record.gpc or any(event.gpc for event in events)
    record.dnt = record.dnt or any(event.dnt for event in events)


def _json(value: bool) -> str:
    return "true" if value else "false"
