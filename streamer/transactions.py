"""From messages of the output plugin to events with their positions. Pure."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from pipeline.events import Event
from pipeline.position import Lsn, Position
from streamer.pgoutput import INSERT_TUPLE_AT, Begin, Commit, DecodeError, Message, Relation, decode, insert_header
from streamer.rows import Encoded, RowEncoder
from streamer.types import FIRST_USER_OID, Types

Encode = Callable[[bytes, int], Encoded]

_NO_HEADER = b"\0"
"""No message begins like that."""

MAX_LSN = Lsn(0xFFFF_FFFF_FFFF_FFFF)


class EpochMap:
    """Which epoch a commit belongs to: the one that holds its LSN, according to the timeline history."""

    def __init__(self, epochs: Sequence[tuple[Lsn, int]]) -> None:
        """`epochs`: (begins at, epoch), oldest first; the first begins at 0."""
        self._begins = [begins_at for begins_at, _ in epochs]
        self._epochs = [epoch for _, epoch in epochs]

    def at(self, lsn: Lsn) -> int:
        """The epoch of a commit at `lsn`."""
        return self._epochs[max(0, bisect_right(self._begins, lsn) - 1)]

    def end_of(self, epoch: int) -> Lsn | None:
        """The LSN at which `epoch` ended; the last LSN there is for the current one, None for another history's."""
        if epoch not in self._epochs:
            return None
        following = self._epochs.index(epoch) + 1
        return self._begins[following] if following < len(self._begins) else MAX_LSN

    @property
    def current(self) -> int:
        """The epoch of commits to come."""
        return self._epochs[-1]


class Transactions:
    """Follows the stream. State: the transaction under way, and the relations announced so far."""

    def __init__(self, epochs: EpochMap, types: Types | None = None) -> None:
        """`types`: the server's domains and arrays."""
        self._epochs = epochs
        self._types: Types = types or {}
        self._looked_up: set[int] = set()
        self._encoders: dict[int, RowEncoder] = {}
        self._begin: Begin | None = None
        self._transaction = (0, 0, 0)  # epoch, commit LSN, commit time
        self._index = 0
        self._header = _NO_HEADER
        self._encode: Encode = _no_relation
        self.complete_until = Lsn(0)
        """End of the last whole transaction: everything before it was handed out."""

    @property
    def in_transaction(self) -> bool:
        """Rows of a transaction whose commit has not come yet were handed out, or may be next."""
        return self._begin is not None

    def unknown_types(self, payloads: Iterable[bytes]) -> set[int]:
        """Types in `payloads` that were made after the others were read: `learn` them before `events`."""
        announced = [payload for payload in payloads if payload[:1] == b"R"]
        unknown: set[int] = set()
        for payload in announced:
            relation = decode(payload)
            assert isinstance(relation, Relation)
            unknown |= {c.type_oid for c in relation.columns if c.type_oid >= FIRST_USER_OID} - self._looked_up
        return unknown

    def learn(self, types: Types, looked_up: set[int]) -> None:
        """Domains and arrays as the server has them now, after `looked_up` were met. A dropped type stays text."""
        self._types = types
        self._looked_up |= looked_up

    def events(self, payloads: Iterable[bytes]) -> list[Event]:
        """The events in `payloads`, in order. Raises DecodeError when the stream makes no sense."""
        event_batch: list[Event] = []
        add, new = event_batch.append, tuple.__new__  # a NamedTuple's own __new__ takes three times as long
        header, encode, index = self._header, self._encode, self._index
        epoch, commit_lsn, commit_time = self._transaction
        for payload in payloads:
            if not payload.startswith(header):
                if payload[:1] != b"I":
                    self._index = index
                    self._follow(decode(payload))
                    header, encode, index = self._header, self._encode, self._index
                    epoch, commit_lsn, commit_time = self._transaction
                    continue
                header, encode = self._turn_to(payload)
            try:
                key, client_id, line = encode(payload, INSERT_TUPLE_AT)
            except (IndexError, ValueError, struct.error) as error:
                raise DecodeError("pgoutput: malformed row") from error
            position = new(Position, (epoch, commit_lsn, index))
            index += 1
            add(new(Event, (position, commit_time, key, client_id, line)))
        self._index = index
        return event_batch

    def _turn_to(self, payload: bytes) -> tuple[bytes, Encode]:
        """The header that inserts into the relation of `payload` have, and its encoder: rows come in runs."""
        oid, width = insert_header(payload)
        encoder = self._encoders.get(oid)
        if self._begin is None or encoder is None:
            raise DecodeError("pgoutput: an insert outside of a transaction or of an unknown relation")
        if width != encoder.width:
            raise DecodeError("pgoutput: a row of another width than its relation")
        self._header, self._encode = payload[:INSERT_TUPLE_AT], encoder.encode
        return self._header, self._encode

    def _follow(self, message: Message | None) -> None:
        match message:
            case Begin():
                if self._begin is not None:
                    raise DecodeError("pgoutput: a transaction inside of another")
                self._begin, self._index = message, 0
                self._transaction = (self._epochs.at(message.commit_lsn), message.commit_lsn, message.commit_time)
            case Commit():
                if self._begin is None or self._begin.commit_lsn != message.commit_lsn:
                    raise DecodeError("pgoutput: a commit of another transaction")
                self._begin, self._header = None, _NO_HEADER
                self.complete_until = message.end_lsn
            case Relation():
                self._header = _NO_HEADER
                self._encoders[message.oid] = RowEncoder(message.columns, self._types)
            case None:
                pass  # a kind that is none of ours


def _no_relation(_data: bytes, _at: int) -> Encoded:
    raise DecodeError("pgoutput: an insert of an unknown relation")
