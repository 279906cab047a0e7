"""`python -m database reconcile`: does the ledger balance, and with --deep, do the objects say the same."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from database import preflight
from database.balance import Imbalance, Window, by_kind, imbalances, to_json, unexported_rows
from database.balance_deep import deep_imbalances
from database.ledger import open_pool
from database.settings import DeepReconcileSettings, ReconcileSettings
from database.source import connect
from pipeline import logs
from pipeline.clients import CLIENT_ID
from pipeline.s3 import open_bucket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--since", type=_time, help="first hour, e.g. 2026-11-23T05 (UTC)")
    parser.add_argument("--until", type=_time, help="hour behind the last one")
    parser.add_argument("--client", type=_client_id, metavar="ID", help="one client id")
    parser.add_argument("--deep", action="store_true", help="read the objects too: follow each event id")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


async def run(options: argparse.Namespace) -> int:
    """Exit status: 0 when everything balances, 1 when not."""
    settings = DeepReconcileSettings.load() if options.deep else ReconcileSettings.load()
    logs.configure("database", settings.log_level)
    window = Window(since=options.since, until=options.until, client_id=options.client)
    found = await reconcile(settings, window)
    if options.json:
        document = {"balances": not found, "kinds": by_kind(found), "imbalances": to_json(found)}
        print(json.dumps(document, indent=2))  # noqa: T201 - a command's answer
    else:
        print("\n".join(str(item) for item in found) or "balances")  # noqa: T201 - a command's answer
        if found:
            print(f"{len(found)} imbalances", file=sys.stderr)  # noqa: T201
    return 1 if found else 0


async def reconcile(settings: ReconcileSettings, window: Window) -> list[Imbalance]:
    """All imbalances; deep ones when `settings` name the buckets."""
    slot, topic = settings.replication_slot, settings.kafka_raw_topic
    await preflight.require(settings.source_dsn, settings.ledger_dsn, publication=settings.publication)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn))
        source = await stack.enter_async_context(connect(settings.source_dsn))
        async with pool.connection() as ledger:
            found = await imbalances(ledger, window, slot=slot, topic=topic)
            found += await unexported_rows(source, ledger, slot=slot)
            if isinstance(settings, DeepReconcileSettings):
                raw = await stack.enter_async_context(open_bucket(settings.raw_bucket))
                processed = await stack.enter_async_context(open_bucket(settings.processed_bucket))
                await preflight.require_bucket(raw, "RAW_S3_BUCKET")
                await preflight.require_bucket(processed, "PROCESSED_S3_BUCKET")
                found += await deep_imbalances(
                    ledger,
                    raw,
                    processed,
                    window,
                    topic=topic,
                    raw_kept_since=_kept_since(settings.raw_retention_days),
                    processed_kept_since=_kept_since(settings.processed_retention_days),
                )
    return found


def _client_id(text: str) -> str:
    if not CLIENT_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("that is no client id")
    return text


def _kept_since(days: int | None) -> datetime:
    if days is None:
        return datetime.fromtimestamp(0, UTC)
    return datetime.now(UTC) - timedelta(days=days)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no time; 2026-11-23T05 is one") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
