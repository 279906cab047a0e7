"""What a raw object's metadata say beside its own positions: what epochs mean, where Kafka stood before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection

from database.ledger.stream import KafkaTail
from pipeline.errors import PoisonError
from pipeline.position import Lsn

_MOST_TAILS = 1_000
"""Characters. S3 takes 2 KB of metadata in all; beyond that the tails are found in Kafka."""

_MOST_HISTORIES = 8

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An epoch as a raw object's metadata name it."""

    epoch: int
    system_identifier: str
    timeline: int
    begins_at: Lsn


async def known_histories(connection: AsyncConnection) -> list[History]:
    """The ledger's epochs: the newest few, which are those of the server at hand and what went before."""
    cursor = await connection.execute(
        "SELECT epoch, system_identifier, timeline, begins_at_lsn::text FROM pipeline.epochs"
        " ORDER BY epoch DESC LIMIT %s",
        (_MOST_HISTORIES,),
    )
    return [
        History(epoch=epoch, system_identifier=system, timeline=timeline, begins_at=Lsn.parse(begins_at))
        for epoch, system, timeline, begins_at in reversed(await cursor.fetchall())
    ]


def history_text(histories: Sequence[History]) -> str:
    """For the metadata entry `history`: what the epoch numbers in positions mean."""
    return ",".join(f"{h.epoch}:{h.system_identifier}:{h.timeline}:{h.begins_at}" for h in histories)


def parse_history(text: str) -> list[History]:
    """The inverse of `history_text`. Raises PoisonError."""
    try:
        parts = [item.split(":") for item in text.split(",") if item]
        return [
            History(epoch=int(epoch), system_identifier=system, timeline=int(timeline), begins_at=Lsn.parse(begins_at))
            for epoch, system, timeline, begins_at in parts
        ]
    except ValueError as error:
        raise PoisonError("metadata entry history is damaged") from error


def tails_text(tails: Mapping[int, KafkaTail]) -> str:
    """For the metadata entry `previous-tails`: where each partition ended as of the object before; '' if too long.

    `partition.offset.shift` with commas between, numbers to base 36; shift is offset - sequence - 1, left out when 0.
    """
    parts = []
    for partition, tail in sorted(tails.items()):
        shift = tail.next_offset - tail.last_sequence - 1
        parts.append(f"{_base36(partition)}.{_base36(tail.next_offset)}" + (f".{_base36(shift)}" if shift else ""))
    text = ",".join(parts)
    return text if len(text) <= _MOST_TAILS else ""


def parse_tails(text: str) -> dict[int, KafkaTail]:
    """The inverse of `tails_text`. Raises PoisonError."""
    tails = {}
    try:
        for item in text.split(","):
            if item:
                partition, offset, *shift = (int(part, 36) for part in item.split("."))
                tails[partition] = KafkaTail(next_offset=offset, last_sequence=offset - 1 - (shift[0] if shift else 0))
    except ValueError as error:
        raise PoisonError("metadata entry previous-tails is damaged") from error
    return tails


def _base36(number: int) -> str:
    text, rest = "", abs(number)
    while rest or not text:
        rest, digit = divmod(rest, 36)
        text = _DIGITS[digit] + text
    return f"-{text}" if number < 0 else text
