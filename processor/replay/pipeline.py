"""A replay from end to end: check what was asked for, go through the hours, tell what has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from database import preflight
from database.ledger import audit, connected, open_pool, replays, setback
from database.ledger.cells import hours_with_events, watermark
from database.ledger.replays import Order, Replay
from pipeline import logs
from pipeline.directory import ClientDirectory
from pipeline.errors import ConfigError, PermanentError, PipelineError, TransientError
from pipeline.s3 import open_bucket
from pipeline.secrets import SecretBox
from pipeline.stores import open_store
from processor.policies import PolicyCache
from processor.replay.cells import QUARANTINE
from processor.replay.hour import HourReplay, Workshop
from processor.replay.kafka import KafkaReader
from processor.replay.pace import Pace
from processor.replay.raw import RawReader
from processor.replay.report import Report
from processor.replay.usable import why_unusable
from processor.settings import ProcessorSettings

log = logs.get(__name__)

TRIES = 4
"""Attempts at one hour: others may revise its cells meanwhile, and servers may be away for a moment."""

_REST_SECONDS = 3.0

Tell = Callable[[dict[str, Any]], None]
"""Takes the document that the one who asked gets to see."""


class ReplayFailedError(PermanentError):
    """Some cells could not be replayed; those are as they were before."""


async def replay_now(settings: ProcessorSettings, order: Order, tell: Tell) -> None:
    """Run what was asked for on the command line. Raises ConfigError when it can't be, before anything is done."""
    async with _replayer(settings) as replayer:
        checked = await replayer.check(order)
        if order.dry_run:
            report = await replayer.run(checked, None)
            tell(report.to_json())
            _raise_refusals(report)
            return
        async with replayer.connection() as connection:
            replay_id = await replays.request(connection, checked, "command line")
            replay = await replays.claim(connection, replay_id)
            assert replay is not None
            await replayer.work_off(connection, replay, tell)


async def resume(settings: ProcessorSettings, replay_id: int, tell: Tell) -> None:
    """Go on with a replay that was interrupted or has failed."""
    async with _replayer(settings) as replayer, replayer.connection() as connection:
        replay = await replays.claim(connection, replay_id)
        if replay is None:
            found = await replays.find(connection, replay_id)
            raise ConfigError(
                f"there is no replay {replay_id}"
                if found is None
                else f"replay {replay_id} is finished"
                if found.state == "finished"
                else f"another process runs replay {replay_id}"
            )
        await replayer.work_off(connection, replay, tell)


async def run_requested(settings: ProcessorSettings, tell: Tell) -> None:
    """Run all replays that were requested, and those whose process died, one after the other.

    Raises ReplayFailedError after all were tried.
    """
    failures: list[str] = []
    async with _replayer(settings) as replayer, replayer.connection() as connection:
        while (replay := await replays.claim_next(connection)) is not None:
            try:
                await replayer.work_off(connection, replay, tell)
            except PipelineError as error:
                log.error("processor.replay.failed", replay_id=replay.id, error=str(error))
                failures.append(f"replay {replay.id}: {error}")
    if failures:
        raise ReplayFailedError("; ".join(failures))


class Replayer:
    """Runs replays with what they all need open."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection that holds a replay's lock while it is worked off."""
        async with connected(self._shop.pool) as connection:
            yield connection

    async def check(self, order: Order) -> Order:
        """The order with its last hour cut to what there can be. Raises ConfigError when it can't be carried out."""
        await self._shop.directory.refresh()
        if order.client_id is not None:
            reason = why_unusable(self._shop.policies, order.client_id)
            if reason is not None:
                raise ConfigError(f"--client {order.client_id}: {reason}", hint="nothing was replayed")
        async with connected(self._shop.pool) as connection:
            reached = await watermark(connection)
        if reached is None or order.first_hour > reached:
            raise ConfigError(
                "--since lies beyond what has been processed"
                + (f", which is up to {reached:%Y-%m-%dT%H:%M:%SZ}" if reached else ": nothing yet"),
                hint="replay hours that were processed",
            )
        return replace(order, last_hour=min(order.last_hour, _hour_of(reached)))

    async def work_off(self, connection: Any, replay: Replay, tell: Tell) -> None:
        """Run a claimed replay and record how it ended."""
        log.info("processor.replay.started", replay_id=replay.id, client_id=replay.client_id)
        try:
            order = await self.check(replay.order)
            if order.dry_run:
                report = await self.run(order, None)
            else:
                report = await self.run(order, replay.id)
        except PipelineError as error:
            await self._finish(connection, replay, {}, str(error))
            raise
        document = {"replay_id": replay.id, **report.to_json()}
        await self._finish(connection, replay, document, "; ".join(report.refusals[:20]) or None)
        tell(document)
        _raise_refusals(report)

    async def _finish(self, connection: Any, replay: Replay, document: dict[str, Any], error: str | None) -> None:
        async with connection.transaction():
            await replays.finish(connection, replay.id, document, error=error)
            await audit.append(
                connection,
                actor=replay.requested_by,
                action="replay.failed" if error else "replay.finished",
                client_id=replay.client_id,
                subject=f"replay {replay.id}",
                details={
                    "first_hour": replay.first_hour.isoformat(),
                    "last_hour": replay.last_hour.isoformat(),
                    "quarantine": replay.quarantine,
                    "dry_run": replay.dry_run,
                    "cells": document.get("cells", {}),
                },
            )
        await replays.release(connection, replay.id)

    async def run(self, order: Order, replay_id: int | None) -> Report:
        """Hour by hour. What an earlier run of the same replay has done is in the report, and isn't done again."""
        report = Report(order)
        if order.source != "auto":
            readers = [reader for reader in self._shop.readers if reader.name == order.source]
            shop = replace(self._shop, readers=readers)
        else:
            shop = self._shop
        filed_under = QUARANTINE if order.quarantine else order.client_id
        async with connected(shop.pool) as connection:
            hours = await hours_with_events(connection, order.first_hour, order.last_hour, filed_under)
            if replay_id is not None:
                for summary in await replays.cell_summaries(connection, replay_id):
                    report.add(summary)
        for hour in hours:
            await self._run_hour(shop, order, replay_id, hour, report)
        return report

    async def _run_hour(
        self, shop: Workshop, order: Order, replay_id: int | None, hour: datetime, report: Report
    ) -> None:
        only: set[str] | None = None
        for attempt in range(1, TRIES + 1):
            work = HourReplay(shop, order, replay_id, hour, only)
            try:
                await work.run()
            except TransientError as error:
                if attempt == TRIES:
                    raise
                log.warning("processor.replay.delayed", hour=str(hour), error=str(error))
                await asyncio.sleep(_REST_SECONDS)
                continue
            for summary in work.summaries:
                report.add(summary)
            only = work.undone
            if not only:
                return
        raise TransientError(
            f"hour {hour:%Y-%m-%dT%H}: its cells are being changed all the time", hint="is another replay running?"
        )


def _raise_refusals(report: Report) -> None:
    if report.refusals:
        raise ReplayFailedError(
            f"{report.states['refused']} cells were not replayed and are as they were: {report.refusals[0]}",
            hint="the summary names the first thousand",
        )


def _hour_of(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


@asynccontextmanager
async def _replayer(settings: ProcessorSettings) -> AsyncIterator[Replayer]:
    async with AsyncExitStack() as stack:
        secrets = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
        await preflight.require(None, settings.ledger_dsn)
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn, max_size=6))
        processed = await stack.enter_async_context(open_bucket(settings.processed_bucket))
        await preflight.require_bucket(processed, "PROCESSED_S3_BUCKET")
        raw = await stack.enter_async_context(open_bucket(settings.raw_bucket))
        store = await open_store(
            kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn
        )
        stack.push_async_callback(store.close)
        topic = settings.kafka_raw_topic
        await setback.check_partitions(pool, processed, topic, range(settings.kafka_partitions), {})
        pace = Pace(settings.replay_events_per_second)
        raw_reader = RawReader(raw, pool, topic, settings.kafka_partitions, pace)
        kafka_reader = KafkaReader(settings, raw_reader, pace)
        stack.push_async_callback(kafka_reader.close)
        directory = ClientDirectory(store)
        yield Replayer(
            Workshop(
                topic=topic,
                pool=pool,
                processed=processed,
                directory=directory,
                policies=PolicyCache(directory, secrets, time.monotonic),
                readers=(kafka_reader, raw_reader),
            ),
        )
