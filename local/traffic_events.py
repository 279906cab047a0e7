"""Made-up events as a web pixel sends them: sessions of visitors, with all that is odd on the web.

`EventSource` gives rows of events_log. Each row knows who must receive it and which personal values were planted in
it. About 1.3 kB each on average; one in a thousand is much larger.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from local import traffic_words as words
from local.traffic_bodies import event_data, free_text
from local.traffic_persons import Person, Planted, in_url, person
from local.traffic_plan import Zipf

SESSIONS_PER_CLIENT = 40
STRAY_RATIO = 0.02
"""Share of rows with no client_id, or one that names no active client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of events_log, less what the server fills in."""

    event_id: uuid.UUID
    event_type: str
    session_id: str | None
    visitor_id: str | None
    site_id: str | None
    timestamp: datetime | None
    url: str | None
    path: str | None
    user_agent: str | None
    ip_address: str | None
    raw_event_data: bytes | None
    """JSON text."""
    client_id: str | None
    batch_id: uuid.UUID | None
    owner: str | None
    """The client that must receive it; None for nobody."""
    consent: str
    """granted, refused, or partial."""
    planted: tuple[Planted, ...]


@dataclass(slots=True, kw_only=True)
class Session:
    """A visit: what stays the same from event to event."""

    client_id: str
    host: str
    session_id: str
    visitor_id: str
    person: Person
    user_agent: str
    left: int
    members: dict[str, Any] = field(default_factory=dict)
    """attribution, browser, consent, gpc, dnt, referrer as they stand in raw_event_data."""
    consent: str = "granted"


class EventSource:
    """An endless source of rows. The same seed gives the same rows, but for times and event ids."""

    def __init__(
        self,
        clients: Sequence[str],
        *,
        seed: int | None = None,
        sites: Mapping[str, Sequence[str]] | None = None,
        inactive: Sequence[str] = (),
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        """`clients`: active ones, the busiest first. `sites`: hosts that the client store gives to each client; only
        with them are there rows that belong to a client by their host alone."""
        if not clients:
            raise ValueError("at least one client is needed")
        self._rng = random.Random(seed)
        self._zipf = Zipf(clients)
        self._sites = sites or {}
        self._strange = (*words.STRANGE_CLIENTS, *inactive, *inactive)
        self._new_id = new_id
        self._sessions: dict[str, list[Session]] = {client: [] for client in clients}
        self._type_names, self._type_weights = tuple(words.TYPES), tuple(words.TYPES.values())

    def rows(self, count: int, now: datetime) -> list[Row]:
        """`count` rows that happened shortly before `now`. A batch and its events may be cut by the end: the rest is
        left out, as when a pixel's connection dies."""
        found: list[Row] = []
        while len(found) < count:
            found += self._some(now)
        return found[:count]

    def _some(self, now: datetime) -> Iterator[Row]:
        rng = self._rng
        session = self._session(self._zipf.pick(rng))
        (kind,) = rng.choices(self._type_names, self._type_weights)
        client_id, owner, host, site_id = self._attribution(session)
        if kind != "batch":
            yield self._row(session, kind, now, None, client_id, owner, host, site_id)
            return
        batch_id = self._new_id()
        inner = rng.choices(self._type_names[:-1], self._type_weights[:-1], k=rng.randint(2, 5))
        parts = [self._row(session, k, now, batch_id, client_id, owner, host, site_id) for k in inner]
        yield self._wrapper(session, parts, now, batch_id, client_id, owner, site_id)
        yield from parts

    def _session(self, client_id: str) -> Session:
        rng, pool = self._rng, self._sessions[client_id]
        if len(pool) < SESSIONS_PER_CLIENT and (not pool or rng.random() < 0.3):
            pool.append(self._new_session(client_id))
        index = rng.randrange(len(pool))
        session = pool[index]
        session.left -= 1
        if session.left < 0:
            pool[index] = session = self._new_session(client_id)
        return session

    def _new_session(self, client_id: str) -> Session:
        rng = self._rng
        known = self._sites.get(client_id)
        width, height = rng.choice(words.SCREENS)
        user_agent = rng.choice(words.USER_AGENTS)
        session = Session(
            client_id=client_id,
            host=rng.choice(known) if known else f"www.{client_id.partition('-')[0].lower() or 'site'}.example",
            session_id=f"s_{rng.getrandbits(80):020x}",
            visitor_id=f"v_{rng.getrandbits(80):020x}",
            person=person(rng),
            user_agent=user_agent,
            left=rng.randint(1, 25),
        )
        session.consent, consent, gpc = self._consent()
        session.members = {
            "referrer": rng.choice(words.REFERRERS),
            "attribution": self._campaign(),
            "browser": {
                "language": rng.choice(words.LANGUAGES),
                "screen": {"width": width, "height": height, "colorDepth": 24},
                "viewport": {"width": width - rng.choice((0, 17)), "height": height - rng.choice((74, 139))},
                "timezone": rng.choice(words.TIME_ZONES),
                "userAgent": user_agent,
                "cookiesEnabled": True,
                "touch": width < 900,
            },
            "consent": consent,
            "gpc": gpc,
            "dnt": rng.choice((None, None, "1", "0", True, False)),
        }
        if session.consent == "granted" and session.members["dnt"] in ("1", True):
            session.consent = "partial"  # whether dnt is a refusal is the client's setting
        return session

    def _consent(self) -> tuple[str, dict[str, Any] | None, bool]:
        choice = self._rng.random()
        given = {"analytics": True, "marketing": True, "functional": True, "version": "2.1"}
        if choice < 0.6:
            return "granted", given, False
        if choice < 0.7:
            return "partial", {**given, "marketing": False}, False
        if choice < 0.8:
            return "refused", {"analytics": False, "marketing": False, "functional": True}, False
        if choice < 0.9:
            return "refused", given, True  # the browser's Global Privacy Control says no
        return "refused", None, False

    def _campaign(self) -> dict[str, Any]:
        rng = self._rng
        if rng.random() < 0.5:
            return {}
        found: dict[str, Any] = {
            "utm_source": rng.choice(("search", "social", "mail")),
            "utm_medium": rng.choice(("cpc", "email", "organic")),
            "utm_campaign": rng.choice(words.CAMPAIGNS),
        }
        found[rng.choice(("gclid", "fbclid", "msclkid"))] = f"Cj0{rng.getrandbits(160):x}"
        return found

    def _attribution(self, session: Session) -> tuple[str | None, str | None, str, str]:
        """client_id as the collector wrote it, the owner, the page's host, the site id."""
        rng, client_id = self._rng, session.client_id
        if rng.random() >= STRAY_RATIO:
            return client_id, client_id, session.host, session.host
        choice = rng.random()
        marker = rng.choice((None, None, *words.MARKERS))
        if choice < 0.4 and client_id in self._sites:  # nobody named, but the site is a client's
            site_id = session.host if rng.random() < 0.5 else rng.choice(words.UNOWNED_HOSTS)
            return marker, client_id, session.host, site_id
        if choice < 0.65:
            return marker, None, rng.choice(words.UNOWNED_HOSTS), rng.choice(words.UNOWNED_HOSTS)
        # A set but unknown client_id is never guessed, whatever the site.
        return rng.choice(self._strange), None, session.host, session.host

    def _moment(self, now: datetime) -> datetime:
        """Shortly ago; now and then a device's clock is far off."""
        rng = self._rng
        if rng.random() < 0.003:
            return now + timedelta(seconds=rng.uniform(-30 * 86400, 3 * 86400))
        return now - timedelta(microseconds=rng.randrange(3_000_000))

    def _row(
        self,
        session: Session,
        kind: str,
        now: datetime,
        batch_id: uuid.UUID | None,
        client_id: str | None,
        owner: str | None,
        host: str,
        site_id: str,
    ) -> Row:
        rng, who = self._rng, session.person
        moment = self._moment(now)
        path, title = rng.choice(words.PAGES)
        url, planted = f"https://{host}{path}", who.planted("ip")
        if rng.random() < 0.08:
            in_query = who.planted("email")
            query = in_url(free_text(rng, who, in_query))
            url += f"?utm_source=mail&email={in_url(who.email)}&q={query}#top"
            planted += [*in_query, *((kind, in_url(value)) for kind, value in in_query)]
        data = event_data(rng, kind, who, planted)
        document = {
            "eventType": kind,
            "sessionId": session.session_id,
            "visitorId": session.visitor_id,
            "siteId": site_id,
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "url": url,
            "path": path,
            **session.members,
            "eventData": data,
            "page": {"title": title, "width": 1280, "scrollY": rng.randrange(4000), "loadMs": rng.random() * 3000},
        }
        if session.consent == "refused" and document["consent"] is None:
            del document["consent"]
        unusual = rng.random()
        return Row(
            event_id=self._new_id(),
            event_type=kind,
            session_id=session.session_id,
            visitor_id=session.visitor_id if unusual > 0.01 else None,
            site_id=site_id,
            timestamp=moment,
            url=url,
            path=path,
            user_agent=session.user_agent,
            ip_address=who.ip,
            raw_event_data=orjson.dumps(document) if unusual > 0.001 else None,
            client_id=client_id,
            batch_id=batch_id,
            owner=owner,
            consent=session.consent if unusual > 0.001 else "refused",
            planted=tuple(dict.fromkeys(planted)),
        )

    def _wrapper(
        self,
        session: Session,
        parts: Sequence[Row],
        now: datetime,
        batch_id: uuid.UUID,
        client_id: str | None,
        owner: str | None,
        site_id: str,
    ) -> Row:
        """The row of type batch: its events once more, under events[]."""
        first = parts[0]
        document = {
            "eventType": "batch",
            "sessionId": session.session_id,
            "visitorId": session.visitor_id,
            "siteId": site_id,
            "timestamp": now.isoformat(timespec="milliseconds"),
            "url": first.url,
            "path": first.path,
            **session.members,
            "events": [orjson.Fragment(part.raw_event_data) for part in parts if part.raw_event_data],
        }
        return Row(
            event_id=self._new_id(),
            event_type="batch",
            session_id=session.session_id,
            visitor_id=session.visitor_id,
            site_id=site_id,
            timestamp=now,
            url=first.url,
            path=first.path,
            user_agent=session.user_agent,
            ip_address=session.person.ip,
            raw_event_data=orjson.dumps(document),
            client_id=client_id,
            batch_id=batch_id,
            owner=owner,
            consent=session.consent,
            planted=tuple(dict.fromkeys(value for part in parts for value in part.planted)),
        )
