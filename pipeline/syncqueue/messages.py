"""The two messages on the queue: a tick of a schedule, and the order to deliver to one client.

An order may be limited to hours (a back-fill); then it has `since` and `until`, the first and the last hour, in UTC.

A run key is the time of what asked for the run, to the minute for a tick (every syncer makes the same one of it) and to
the second for a person, then who asked: `20261123T0500-hourly`, `20261123T050012-manual`. Keys sort by time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from pipeline.clients import CLIENT_ID, ClientId, SyncFrequency
from pipeline.errors import PoisonError

MANUAL = "manual"

MAX_AHEAD = timedelta(hours=1)
"""A later run of a client makes earlier ones pointless, so a message of the far future would end its deliveries."""

_RUN_KEY = re.compile(r"([0-9]{8}T[0-9]{4})([0-9]{2})?-(hourly|daily|weekly|manual)")
_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}(:00(:00)?)?(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)
_MAX_BYTES = 4096
_FIRST_YEAR = 2000  # years have four digits, or keys would not sort


class MessageError(PoisonError):
    """Not a message of ours. The reason never quotes the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A schedule has fired."""

    frequency: SyncFrequency
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Limits of a back-fill, both included; None: no limit."""

    first: datetime | None = None
    last: datetime | None = None

    @classmethod
    def parse(cls, since: str | None, until: str | None, now: datetime) -> Hours:
        """From texts like `2026-11-23T05`, without offset in UTC.

        Raises HoursError, which says what is wrong, for what is no hour, lies after `now`, or is in the wrong order.
        """
        first, last = _hour("since", since, now), _hour("until", until, now)
        if first and last and first > last:
            raise HoursError("since lies after until", hint="both hours are included; since comes first")
        return cls(first=first, last=last)


class HoursError(PoisonError):
    """Hours that can't be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSync:
    """Deliver to one client, under this key unless an unfinished run comes first."""

    client_id: ClientId
    run_key: str
    hours: Hours = Hours()

    @property
    def reason(self) -> str:
        """Who asked: hourly, daily, weekly or manual."""
        return self.run_key.rpartition("-")[2]

    def to_body(self) -> str:
        """The message's text."""
        members = {"client_id": self.client_id, "run_key": self.run_key}
        for name, hour in (("since", self.hours.first), ("until", self.hours.last)):
            if hour is not None:
                members[name] = f"{hour:%Y-%m-%dT%H}"
        return orjson.dumps(members).decode()


def manual_order(client_id: ClientId, now: datetime, hours: Hours | None = None) -> ClientSync:
    """A person asks: deliver now. Asked twice within a second it is one order."""
    return ClientSync(client_id=client_id, run_key=run_key(now, MANUAL), hours=hours or Hours())


def parse(body: str, now: datetime) -> Tick | ClientSync:
    """Read a message. Raises MessageError, and nothing else, for what isn't one or lies in the future of `now`."""
    if len(body) > _MAX_BYTES:
        raise MessageError("longer than any message of ours")
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MessageError("not JSON") from None
    if not isinstance(members, dict):
        raise MessageError("not a JSON object")
    if "client_id" in members:
        return _client_sync(members, now)
    if "sync_frequency" in members:
        return _tick(members, now)
    raise MessageError("neither client_id nor sync_frequency is there")


def run_key(time: datetime, reason: str) -> str:
    """The key of a run; `time` with its zone. See the module's text."""
    return f"{time.astimezone(UTC):{'%Y%m%dT%H%M%S' if reason == MANUAL else '%Y%m%dT%H%M'}}-{reason}"


def run_time(key: str) -> datetime:
    """The time in a run key, to the minute or second. Raises MessageError when it isn't a key."""
    match = _RUN_KEY.fullmatch(key)
    if match is None:
        raise MessageError("run_key isn't a run key")
    minute, second, _ = match.groups()
    try:
        return datetime.strptime(f"{minute}{second or '00'}+0000", "%Y%m%dT%H%M%S%z").astimezone(UTC)
    except (ValueError, OverflowError):
        raise MessageError("run_key holds no time") from None


def _client_sync(members: dict[str, object], now: datetime) -> ClientSync:
    client_id, key = members["client_id"], members.get("run_key")
    if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
        raise MessageError("client_id isn't an id")
    if not isinstance(key, str):
        raise MessageError("run_key is missing")
    if run_time(key) > now + MAX_AHEAD:
        raise MessageError("run_key lies in the future")
    since, until = members.get("since"), members.get("until")
    if not isinstance(since, str | None) or not isinstance(until, str | None):
        raise MessageError("since or until isn't a text")
    try:
        hours = Hours.parse(since, until, now + MAX_AHEAD)
    except HoursError as error:
        raise MessageError(str(error.args[0])) from None
    return ClientSync(client_id=ClientId(client_id), run_key=key, hours=hours)


def _hour(name: str, text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    if not _HOUR.fullmatch(text):
        raise HoursError(f"{name} is no hour", hint="expected e.g. 2026-11-23T05 (UTC)")
    try:
        time = datetime.fromisoformat(text)
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise HoursError(f"{name} is no hour", hint="expected e.g. 2026-11-23T05 (UTC)") from None
    if time.minute or time.second:  # an offset of half an hour
        raise HoursError(f"{name} is no whole hour in UTC", hint="expected e.g. 2026-11-23T05 (UTC)")
    if time > now:
        raise HoursError(f"{name} lies in the future")
    if time.year < _FIRST_YEAR:
        raise HoursError(f"{name} lies before this pipeline")
    return time


def _tick(members: dict[str, object], now: datetime) -> Tick:
    frequency, time = members["sync_frequency"], members.get("time")
    if not isinstance(frequency, str) or frequency not in list(SyncFrequency):
        raise MessageError("sync_frequency is none of hourly, daily, weekly")
    if not isinstance(time, str):
        raise MessageError("time is missing")
    try:
        moment = datetime.fromisoformat(time)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MessageError("time isn't RFC 3339") from None
    if moment > now + MAX_AHEAD:
        raise MessageError("time lies in the future")
    if moment.year < _FIRST_YEAR:
        raise MessageError("time lies before this pipeline")
    return Tick(frequency=SyncFrequency(frequency), time=moment)
