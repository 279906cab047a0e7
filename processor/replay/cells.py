"""Which events make up a cell, by what the ledger says. Pure.

The ledger counts a chunk's events by hour and source client; most often all events of such a group have become one
client's. A group without client id (or with a collector's marker) is shared by several; then an event is known by its
id in an object of now, and one that stands in none (dropped, held, dead letter) by its attribution of today. The
numbers must come out as the ledger has them, whoever decides.
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

QUARANTINE = ""
"""The client id under which the ledger counts events in quarantine."""

_NOBODYS = "!"
"""Dead letters of nobody, which could not even be attributed, and what expired in quarantine. They are in no cell: what
retention took doesn't come back. No client id looks like this."""

_SEEN = frozenset(("out", "quarantine"))
"""Dispositions whose objects tell each event's id."""

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
    """Whose cell an event of the hour is in."""

    def __init__(self, state: HourState) -> None:
        self._owners: dict[Share, set[str]] = defaultdict(set)
        self._unseen: set[tuple[Share, str]] = set()
        self._known: dict[tuple[UUID, str], str] = {}
        for chunk_id, (_, source, client_id, disposition) in state.rows:
            share, owner = (chunk_id, source), _owner(client_id, disposition)
            self._owners[share].add(owner)
            if disposition not in _SEEN:
                self._unseen.add((share, owner))

    def objects_to_ask(self, state: HourState, cells: Mapping[str, Cell]) -> list[CurrentObject]:
        """The objects whose event ids are needed to tell the events of shared groups apart: give them to `know`."""
        shared = {share: owners for share, owners in self._owners.items() if len(owners) > 1}
        asked: set[tuple[UUID, str]] = set()
        for (chunk_id, _), owners in shared.items():
            concerned = owners & cells.keys()
            asked |= {(chunk_id, owner) for owner in concerned}
            if concerned:  # so that none of them is taken for a client's
                asked |= {(chunk_id, QUARANTINE)} if QUARANTINE in owners else set()
        return [
            item
            for item in state.objects
            if item.kind in ("client", "quarantine") and (item.chunk_id, item.client_id) in asked
        ]

    def know(self, item: CurrentObject, lines: Iterable[bytes]) -> None:
        """The events of these lines stand in that object."""
        for line in lines:
            if (event_id := _event_id(line)) is not None:
                self._known[item.chunk_id, event_id] = item.client_id

    def cannot_know(self, item: CurrentObject) -> None:
        """That object is lost: its events are known by their attribution alone."""
        self._unseen |= {
            ((item.chunk_id, source), item.client_id) for chunk, source in self._owners if chunk == item.chunk_id
        }

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
        return attributed if (share, attributed) in self._unseen else None


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
