"""The clients as a service sees them: a cache over the client store, and how old it is.

A full load at the start and now and then, in between what has changed, asked with an overlap: a store stamps updated_at
before the change can be seen, and clocks differ. The full load catches what no time stamp shows, such as documents
that another tool wrote without one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline import keyage, logs
from pipeline.clients import Client, ClientId, ClientStore, UnreadableClient
from pipeline.errors import PipelineError
from pipeline.hosts import names_of, normal_name
from pipeline.stores.documents import UnreadableOwner

OVERLAP_SECONDS = 60.0
"""Longer than any deadline of a store's call: no commit can come that much later than its time stamp."""

FULL_LOAD_SECONDS = 300.0

REST_SECONDS = 0.2
REST_SHARE = 20.0
"""After a refresh no change is heeded for so long, or so many times what the refresh took: however many clients change
at once, telling costs no more than a twentieth of the time, and no more than polling when answers are long."""

FAILED_SECONDS = 2.0
"""After a refresh that failed: what the store had told of is not forgotten until the next poll."""

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
"""Before the store is listened to again. Meanwhile there is polling."""

_LAST = datetime(9000, 1, 1, tzinfo=UTC)
"""A forged time stamp at the end of all time must not end the arithmetic."""

log = logs.get(__name__)

Entry = Client | UnreadableClient


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cache holds between two refreshes. Monotonic times in seconds.

    `reached` is by the store's clock, which showed at least that at `fresh_at`: the newest time stamp that was seen,
    and the time that has passed since. So what has changed long ago isn't asked for again and again.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    reached: datetime | None = None
    fresh_at: float = -math.inf
    full_at: float = -math.inf

    def since(self, now: float, wall: datetime) -> datetime | None:
        """What to ask the store for: the time for `changed_since`, None for everything.

        Never later than our own clock less the overlap, so that one client with a time stamp in the future doesn't
        hide the changes of all others.
        """
        if self.reached is None or now - self.full_at >= FULL_LOAD_SECONDS:
            return None
        return min(self.reached, wall) - timedelta(seconds=OVERLAP_SECONDS)

    def absorb(self, found: Iterable[Entry], *, since: datetime | None, now: float) -> Snapshot:
        """The snapshot after the store's answer to `since`, which was asked at `now`."""
        answer: dict[str, Entry] = {entry.client_id: self._known(entry) for entry in found}
        stamps = [entry.updated_at for entry in answer.values()]
        if self.reached is not None:
            stamps.append(self.reached + timedelta(seconds=now - self.fresh_at))
        reached = min(max(stamps), _LAST) if stamps else None
        if since is None:
            return Snapshot(answer, reached, now, now)
        return Snapshot({**self.entries, **answer}, reached, now, self.full_at)

    def _known(self, entry: Entry) -> Entry:
        """The same object as long as a client is the same: what was derived from it stays valid."""
        known = self.entries.get(entry.client_id)
        return known if known is not None and known == entry else entry


class ClientDirectory:
    """The clients, ready to be asked without waiting. One per process; `keep_fresh` runs beside the service's loop.

    A change is seen as soon as the store tells of it; where it can't, after at most `refresh_seconds` and one deadline
    of the store. A refresh that fails leaves the cache as it was and the age growing: the service stops when
    `age_seconds` exceeds its grace time.
    """

    def __init__(
        self,
        store: ClientStore,
        refresh_seconds: float = 15.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._snapshot = Snapshot()
        self._owners: Mapping[str, list[tuple[datetime, ClientId]]] = {}
        self._turn = asyncio.Lock()
        self.version = 0
        """Goes up when any client has changed: what was derived from clients is stale then."""

    async def refresh(self) -> None:
        """Ask the store. Raises its TransientError or PermanentError; the cache then stays as it was."""
        async with self._turn:
            now = self._clock()  # before the question: what is answered is at least as fresh
            since = self._snapshot.since(now, self._wall_clock())
            found = await self._store.changed_since(since)
            after = self._snapshot.absorb(found, since=since, now=now)
            if after.entries != self._snapshot.entries:
                self._owners = _owners(after.entries.values())
                self.version += 1
            self._snapshot = after
            keyage.show(after.entries.values(), self._wall_clock().timestamp())

    async def keep_fresh(self, stop: asyncio.Event) -> None:
        """Refresh every `refresh_seconds`, and when the store tells of a change, until `stop` is set.

        Our own errors are logged, any other is raised.
        """
        told = asyncio.Event()
        listener = asyncio.create_task(self._listen(told))
        listener.add_done_callback(lambda _: told.set())
        try:
            while not stop.is_set():
                started = self._clock()
                told.clear()
                is_fresh = await self._try_refresh()
                took = self._clock() - started
                # From start to start, so that a slow answer doesn't delay the next question.
                due = started + min(self._refresh_seconds, math.inf if is_fresh else FAILED_SECONDS)
                await _first_of(stop, seconds=min(due - self._clock(), max(REST_SECONDS, REST_SHARE * took)))
                await _first_of(stop, told, seconds=due - self._clock())
                if listener.done():
                    listener.result()
        finally:
            listener.cancel()
            await asyncio.wait([listener])

    async def _try_refresh(self) -> bool:
        try:
            await self.refresh()
            return True
        except PipelineError as error:
            age = self.age_seconds(self._clock())
            log.warning(
                "clients.refresh.failed",
                error_class=type(error).__name__,
                error=str(error),
                age_seconds=round(age, 1) if math.isfinite(age) else None,
            )
            return False

    async def _listen(self, told: asyncio.Event) -> None:
        """Set `told` when the store tells of changes. A store that can't is tried again, ever more seldom."""
        rest = FIRST_RETRY_SECONDS
        while True:
            try:
                async with aclosing(self._store.listen()) as changes:
                    async for _ in changes:
                        rest = FIRST_RETRY_SECONDS
                        told.set()
            except PipelineError as error:
                log.warning("clients.listener.failed", error_class=type(error).__name__, error=str(error))
            await asyncio.sleep(rest)
            rest = min(2 * rest, LONGEST_RETRY_SECONDS)

    def get(self, client_id: str) -> Entry | None:
        """The client from the cache, inactive ones too; None when the store has none."""
        return self._snapshot.entries.get(client_id)

    def entries(self) -> tuple[Entry, ...]:
        """All clients of the cache."""
        return tuple(self._snapshot.entries.values())

    def owner_of(self, name: str, at: datetime) -> ClientId | None:
        """Whose events come from host or site id `name` at time `at`: who has had it since the latest `valid_from`.

        A subdomain that nobody had at that time belongs to whom its parent belongs to. The owner may be an unreadable
        client: its events are held, not given to a former owner. None when nobody had it yet, or when two clients claim
        it from the same moment: no guess. Names are compared as `pipeline.hosts` says.
        """
        for form in names_of(name):
            claims = self._owners.get(form)
            if claims is None or claims[0][0] > at:
                continue
            latest = max(valid_from for valid_from, _ in claims if valid_from <= at)
            owners = {client_id for valid_from, client_id in claims if valid_from == latest}
            return owners.pop() if len(owners) == 1 else None
        return None

    def age_seconds(self, now: float) -> float:
        """How long ago, by `time.monotonic`, the cache agreed with the store; infinite before the first refresh."""
        return now - self._snapshot.fresh_at


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Return when one of `events` is set, or after that time."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _owners(entries: Iterable[Entry]) -> dict[str, list[tuple[datetime, ClientId]]]:
    owners: dict[str, list[tuple[datetime, ClientId]]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, Client | UnreadableOwner):
            for domain in entry.domains:
                if name := normal_name(domain.host):
                    owners[name].append((domain.valid_from, entry.client_id))
    for claims in owners.values():
        claims.sort()
    return dict(owners)
