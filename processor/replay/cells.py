"""Which events make up a cell, by what the ledger says. Pure.

The ledger counts a chunk's events by hour and source client; most often all events of such a group have become one
client's. A group without client id (or with a collector's marker) is shared by several; then an event is known by its
id in an object of now, and one that stands in none (it was dropped) by its attribution of today, as far as the ledger
has counted such events. The numbers must come out as the ledger has them, whoever decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from database.ledger.cells import CurrentObject, HourState
from database.ledger.revisions import Rows
from pipeline.errors import PoisonError
from pipeline.record import text_column
from processor.outcome import record_of

QUARANTINE = ""
"""The client id under which the ledger counts events in quarantine."""

_NOBODYS = "!"
"""Dead letters of nobody, which could not even be attributed, and what expired in quarantine. They are in no cell: what
retention took doesn't come back. No client id looks like this."""

_KINDS = {"out": "client", "quarantine": "quarantine", "held": "held", "dead_letter": "dead_letter"}
"""The kind of object in which the events of a disposition stand; those of others stand in none."""

_NAMES = {"": "(none)", "!": "(no id)"}

Share = tuple[UUID, str]
"""(chunk id, source_client_id): the ledger's finest count of one hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A client's events of one hour, as they stand in the ledger; client QUARANTINE: the events of no client."""

    client_id: str
    hour: datetime
    rows: Rows
    objects: tuple[CurrentObject, ...]

    @property
    def chunk_ids(self) -> set[UUID]:
        """The chunks that hold any of its events."""
        return {chunk_id for chunk_id, _ in self.rows}


def cells_of(state: HourState, wanted: Collection[str] | None) -> dict[str, Cell]:
    """The cells of the hour, by client id: those in `wanted`, or all clients' for None (never the quarantine's)."""
    rows: dict[str, dict[tuple[UUID, tuple[datetime, str, str, str]], int]] = defaultdict(dict)
    for key, events in state.rows.items():
        owner = _owner(key[1][2], key[1][3])
        if owner != _NOBODYS and (owner in wanted if wanted is not None else owner != QUARANTINE):
            rows[owner][key] = events
    objects: dict[str, list[CurrentObject]] = defaultdict(list)
    for item in state.objects:
        objects[_owner(item.client_id, item.kind)].append(item)
    return {
        owner: Cell(client_id=owner, hour=state.hour, rows=found, objects=tuple(objects[owner]))
        for owner, found in rows.items()
    }


def _owner(client_id: str, fate: str) -> str:
    """`fate`: a disposition, or the kind of an object."""
    return _NOBODYS if not client_id and fate in ("dead_letter", "expired") else client_id


class Ownership:
    """Whose cell an event of the hour is in. First learn, then `begin`, then ask `of` each event once, in any order."""

    def __init__(self, state: HourState) -> None:
        self._state = state
        self._owners: dict[Share, set[str]] = defaultdict(set)
        self._unseen: dict[Share, Counter[str]] = defaultdict(Counter)
        self._expired: set[Share] = set()
        self._known: dict[tuple[UUID, str], str] = {}
        self._left: dict[Share, Counter[str]] = {}
        for (chunk_id, (_, source, client_id, disposition)), events in state.rows.items():
            share, owner = (chunk_id, source), _owner(client_id, disposition)
            self._owners[share].add(owner)
            if disposition not in _KINDS:
                self._unseen[share][owner] += events
            if disposition == "expired":
                self._expired.add(share)

    def objects_to_ask(self, cells: Collection[str]) -> list[CurrentObject]:
        """The objects whose event ids are needed to tell the events of shared groups apart: give them to `know`.

        `cells`: the client ids of those that are replayed. To be asked again when one could not be read.
        """
        asked: set[tuple[UUID, str]] = set()
        for share, owners in self._owners.items():
            concerned = owners.intersection(cells)
            if len(owners) > 1 and concerned:
                # An event that stands in nobody's object is theirs; that takes to know everybody's.
                in_question = any(self._unseen[share][owner] for owner in concerned)
                asked |= {(share[0], owner) for owner in (owners if in_question else concerned)}
        return [item for item in self._state.objects if (item.chunk_id, _owner(item.client_id, item.kind)) in asked]

    def know(self, item: CurrentObject, lines: Iterable[bytes]) -> None:
        """The events of these lines stand in that object."""
        for line in lines:
            record = record_of(line) if item.kind == "dead_letter" else line
            if (event_id := _event_id(record)) is not None:
                self._known[item.chunk_id, event_id] = _owner(item.client_id, item.kind)

    def cannot_know(self, item: CurrentObject) -> None:
        """That object is lost: its events are as good as in none."""
        for (chunk_id, (_, source, client_id, disposition)), events in self._state.rows.items():
            if (chunk_id, client_id, _KINDS.get(disposition)) == (item.chunk_id, item.client_id, item.kind):
                self._unseen[chunk_id, source][_owner(client_id, disposition)] += events

    def begin(self) -> None:
        """Nothing has been read yet."""
        self._left = {share: Counter(events) for share, events in self._unseen.items()}

    def of(self, share: Share, line: bytes, attributed: str) -> str | None:
        """The client id of the event's cell; None when it is in none that was asked about.

        `attributed`: whose it would be today, QUARANTINE for nobody's.
        """
        owners = self._owners.get(share, set())
        if len(owners) == 1:
            return next(iter(owners))
        event_id = _event_id(line)
        known = self._known.get((share[0], event_id)) if event_id is not None else None
        if known is not None:
            return known
        left = self._left.get(share, Counter())
        if share in self._expired:  # one that was dropped must not be taken for one that is gone
            return attributed if left[attributed] else None
        if not left[attributed]:
            # Its domain has moved since. They are in no object, so it doesn't matter which of them is whose: the
            # numbers come out, and what becomes of each is decided by its attribution of today.
            attributed = next((owner for owner in sorted(left) if left[owner]), "")
            if not left[attributed]:
                return None
        left[attributed] -= 1
        return attributed


Tally = Counter[tuple[str, str]]
"""Events of one chunk by (client id of the cell, source_client_id)."""


def tallies_of(cells: Mapping[str, Cell]) -> dict[UUID, Tally]:
    """How many events the cells have by the ledger, chunk by chunk."""
    tallies: dict[UUID, Tally] = defaultdict(Counter)
    for client_id, cell in cells.items():
        for (chunk_id, (_, source, _, _)), events in cell.rows.items():
            tallies[chunk_id][(client_id, source)] += events
    return tallies


def differences(chunk_id: UUID, expected: Tally, found: Tally) -> list[tuple[str, str]]:
    """(client id of the cell, what is wrong), where the events that were found are not those that were counted."""
    return [
        (
            client_id,
            f"chunk {chunk_id}, source client {_NAMES.get(source, source)}:"
            f" {expected[client_id, source]} events by the ledger, {found[client_id, source]} found",
        )
        for client_id, source in sorted(expected.keys() | found.keys())
        if expected[client_id, source] != found[client_id, source]
    ]


def _event_id(line: bytes) -> str | None:
    try:
        return text_column(line, "event_id")
    except PoisonError:
        return None
