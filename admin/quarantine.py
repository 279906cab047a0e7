"""Counts quarantine objects by the names in them, so that people see which domain waits to be registered.

The objects hold unfiltered events; only counts leave this module, under what is a host name or a site id.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

from admin.ledger import quarantine
from admin.settings import AdminSettings
from database.ledger import Pool, connected
from pipeline import logs
from pipeline.clients import CLIENT_ID
from pipeline.errors import PipelineError
from pipeline.record import text_column
from pipeline.s3 import ObjectStore, open_bucket

NO_ID = "!"
"""What can't be a client's id, as in `raw_counts`: such events are nobody's, whatever domain they come from."""

MOST_AT_ONCE = 50
EVERY_SECONDS = 15.0

_MARKERS = ("unknown_", "error_", "unauthorized_")  # the collector's; docs/event.schema.json
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}", re.ASCII)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)

log = logs.get(__name__)


async def keep_counting(settings: AdminSettings, pool: Pool, stop: asyncio.Event) -> None:
    """Count what has come until `stop` is set. What fails is logged and tried again."""
    while not stop.is_set():
        try:
            async with open_bucket(settings.processed_bucket) as bucket:
                await count(pool, bucket)
        except PipelineError as error:
            log.warning("admin.quarantine.uncounted", error_class=type(error).__name__, error=str(error))
        try:
            await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
        except TimeoutError:
            continue


async def count(pool: Pool, bucket: ObjectStore) -> int:
    """Count the objects that nobody has counted; how many events they held."""
    async with connected(pool) as connection:
        found = await quarantine.uncounted(connection, MOST_AT_ONCE)
    for item in found:
        body = await bucket.get(item.key)
        counts = await asyncio.to_thread(names_in, body)
        async with connected(pool) as connection:
            await quarantine.add(connection, item.id, counts)
    return sum(item.events for item in found)


def names_in(body: bytes) -> Counter[tuple[str, str, str]]:
    """Events by (client_id, site_id, host) in an object of gzip members, one record a line."""
    return Counter(map(_names, _lines(gzip.decompress(body))))


def _lines(text: bytes) -> Iterable[bytes]:
    return (line for line in text.split(b"\n") if line)


def _names(line: bytes) -> tuple[str, str, str]:
    """What a record says about whose it is; '' for what it doesn't say, or what can't be a name."""
    client_id = _text(line, "client_id")
    if client_id.startswith(_MARKERS):
        client_id = ""
    elif client_id and not CLIENT_ID.fullmatch(client_id):
        client_id = NO_ID
    site_id = _text(line, "site_id")
    try:
        host = (urlsplit(_text(line, "url")).hostname or "").removeprefix("www.")
    except ValueError:
        host = ""
    return (
        client_id,
        site_id if _SITE.fullmatch(site_id) else "",
        host if len(host) <= 253 and _HOST.fullmatch(host) else "",
    )


def _text(line: bytes, name: str) -> str:
    try:
        return text_column(line, name) or ""
    except PipelineError:
        return ""
