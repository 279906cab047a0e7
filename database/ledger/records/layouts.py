"""Records of the topic's layouts, in the raw bucket."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from database.ledger.records.form import JSON
from pipeline.errors import PoisonError
from pipeline.layout import Layout
from pipeline.position import ZERO, Position
from pipeline.s3 import ObjectStore, digest

LAYOUTS = "raw-events/layouts/"


async def put_layouts(bucket: ObjectStore, topic: str, layouts: Iterable[Layout]) -> None:
    """Leave layouts in the raw bucket: once the ledger has them, before an event is sent by one, durable on return.

    The first layout of a topic needs no record. May be repeated.
    """
    for layout in layouts:
        if layout.from_position != ZERO:
            await _put_layout(bucket, topic, layout)


async def _put_layout(bucket: ObjectStore, topic: str, layout: Layout) -> None:
    fanout = {key.decode(): width for key, width in layout.fanout.items()}
    body = orjson.dumps(
        {
            "topic": topic,
            "from_position": str(layout.from_position),
            "partitions": layout.partitions,
            "fanout": fanout,
        }
    )
    key = f"{LAYOUTS}{topic}/{layout.from_position}.json"
    await bucket.create(key, body, sha256=digest(body), metadata={"topic": topic}, content_type=JSON)


def decode_layout(body: bytes) -> tuple[str, Layout]:
    """(topic, layout). Raises PoisonError."""
    try:
        document = orjson.loads(body)
        layout = Layout(
            from_position=Position.parse(document["from_position"]),
            partitions=int(document["partitions"]),
            fanout={str(key).encode(): int(width) for key, width in document["fanout"].items()},
        )
        return str(document["topic"]), layout
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PoisonError("a layout's record is damaged") from error
