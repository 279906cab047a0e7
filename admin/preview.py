"""What a client of a level would get of a made-up event, by the real engine."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pipeline.clients import Client
from pipeline.privacy import compile_policy

SAMPLE: dict[str, Any] = {
    "id": 48213,
    "event_id": "7b0c1f5e-3d1a-4f0e-9a57-5c1f6c0f2d11",
    "event_type": "lead_form_submit",
    "session_id": "s-81f2c0",
    "visitor_id": "v-5520aa",
    "site_id": "shop.example.com",
    "timestamp": "2026-03-02T09:14:07.120000Z",
    "url": "https://shop.example.com/contact?email=jane.roe%40example.com&utm_source=news&gclid=Cj0KCQ",
    "path": "/contact",
    "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    "ip_address": "203.0.113.77",
    "client_id": "acme",
    "raw_event_data": {
        "eventType": "lead_form_submit",
        "eventData": {
            "first_name": "Jane",
            "email": "jane.roe@example.com",
            "phone": "+1 202 555 0143",
            "zip": "94110",
            "message": "Please call me about order 7731",
            "plan": "pro",
        },
        "attribution": {"utm_source": "news", "gclid": "Cj0KCQ"},
        "consent": {"analytics": True, "marketing": False},
    },
}
"""A person who doesn't exist fills in a form. Address and number are of ranges that nobody can own (RFC 2606, 5737)."""

_KEY = bytes(32)  # pseudonyms of a preview belong to nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A value of the sample as it comes and as it leaves; None where there is none."""

    name: str
    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        """Whether the filter has touched it."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The sample's values, and whether the client gets the event at all."""

    rows: list[Row]
    dropped: bool


def preview(client: Client, *, consent: bool) -> Preview:
    """The sample under the settings of `client`; `consent`: whether the visitor has agreed."""
    event = copy.deepcopy(SAMPLE)
    event["raw_event_data"]["consent"] = {"analytics": consent, "marketing": consent}
    policy = compile_policy(replace(client, pseudonym_keys=()), pseudonym_keys={1: _KEY})
    line = policy.apply(orjson.dumps(event)).line
    after: dict[str, Any] = json.loads(line) if line else {}
    after.pop("privacy", None)
    names = list(dict.fromkeys([*_paths(event), *(path for path in _paths(after) if path[0] not in event)]))
    rows = [Row(name=".".join(path[-2:]), before=_at(event, path), after=_at(after, path)) for path in names]
    return Preview(rows=rows, dropped=line is None)


def _paths(document: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _paths(value, (*above, name))
        else:
            yield (*above, name)


def _at(document: Any, path: tuple[str, ...]) -> str | None:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return None
        document = document[name]
    if isinstance(document, dict):
        return ", ".join(str(value) for value in document.values())
    return document if isinstance(document, str) else json.dumps(document)
