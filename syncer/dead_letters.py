"""Messages that failed so often that SQS put them aside: what they are and why, and back on the queue.

What isn't a message of ours is told by the parser's reason alone: its text is never shown.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from database.ledger import connected, open_pool
from database.ledger.delivery_status import last_runs
from pipeline.errors import ConfigError
from pipeline.settings import DatabaseSettings, SyncQueueSettings
from pipeline.syncqueue import ClientSync, Message, MessageError, Queue, Tick, open_queue, parse

_HIDDEN_SECONDS = 60.0  # longer than a look at all of them takes
_MOST = 10_000
_UNKNOWN = "it failed at every try; the syncer's log names the reason under this message_id"


class DeadLetterSettings(DatabaseSettings, SyncQueueSettings):
    """What a look at the dead letters needs."""


async def show(settings: DeadLetterSettings) -> bool:
    """Print one JSON line for each; True."""
    async with _open(settings) as (_, dead):
        messages = await _take(dead)
        try:
            read = [(message, _read(message)) for message in messages]
            clients = [order.client_id for _, order in read if isinstance(order, ClientSync)]
            async with open_pool(settings.ledger_dsn) as pool, connected(pool) as connection:
                runs = await last_runs(connection, clients)
            for message, found in sorted(read, key=lambda item: item[0].sent_at):
                sys.stdout.write(orjson.dumps(_line(message, found, runs)).decode() + "\n")
        finally:
            for message in messages:
                await dead.hide(message, 0)
    return True


async def redrive(settings: DeadLetterSettings, ids: Sequence[str] | None) -> bool:
    """Put all of them, or those with these ids, back; print the counts. What can't be read stays: it would come back.

    Interrupted, a message may be on both queues, which is harmless. False when one of `ids` was not put back.
    """
    sent: list[str] = []
    left = 0
    async with _open(settings) as (queue, dead):
        for message in await _take(dead):
            if isinstance(_read(message), MessageError) or (ids and message.id not in ids):
                left += 1
                await dead.hide(message, 0)
                continue
            await queue.send([message.body])
            await dead.delete(message)
            sent.append(message.id)
    sys.stdout.write(orjson.dumps({"sent_back": len(sent), "left": left}).decode() + "\n")
    return set(ids or ()) <= set(sent)


@asynccontextmanager
async def _open(settings: DeadLetterSettings) -> AsyncIterator[tuple[Queue, Queue]]:
    async with open_queue(
        settings.sync_queue_url, region=settings.aws_region, endpoint_url=settings.aws_endpoint_url
    ) as queue:
        dead = await queue.dead_letters()
        if dead is None:
            raise ConfigError(
                "SYNC_QUEUE_URL: the queue has no dead-letter queue", hint="give it a RedrivePolicy, as infra/ does"
            )
        yield queue, dead


async def _take(dead: Queue) -> list[Message]:
    """All of them, each once, hidden from others for a while."""
    found: dict[str, Message] = {}
    while len(found) < _MOST:
        batch = await dead.receive(10, _HIDDEN_SECONDS, wait_seconds=1)
        if not batch:
            break
        found |= {message.id: message for message in batch}
    return list(found.values())


def _read(message: Message) -> Tick | ClientSync | MessageError:
    try:
        return parse(message.body, datetime.now(UTC))
    except MessageError as error:
        return error


def _line(message: Message, found: Tick | ClientSync | MessageError, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    line: dict[str, Any] = {"message_id": message.id, "sent_at": message.sent_at, "receives": message.receives}
    match found:
        case Tick():
            return line | {"what": "tick", "frequency": found.frequency, "time": found.time, "reason": _UNKNOWN}
        case ClientSync():
            reason = runs.get(found.client_id, {}).get("error") or _UNKNOWN
            return line | {
                "what": "order",
                "client_id": found.client_id,
                "run_key": found.run_key,
                "reason": reason,
            }
        case MessageError():
            return line | {"what": "no message of ours", "reason": str(found)}
