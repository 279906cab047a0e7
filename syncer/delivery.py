"""One client's delivery: finish what is unfinished, plan, then file by file, then the manifest.

Nothing is PUT that the ledger doesn't know of, and nothing counts as delivered before its PUT was answered. Whoever
takes over a run repeats at most one PUT, under the same key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from psycopg.errors import UniqueViolation

from database.ledger import Pool, connected, deliveries, delivery_files, delivery_plans, records, revisions, setback
from database.ledger.completeness import frontier_of, last_complete_hour
from database.ledger.deliveries import Run, RunBusyError
from database.ledger.delivery_files import OpenFile, RevisedError
from pipeline import logs, metrics
from pipeline.clients import Client, ClientId, ClientStore, SyncReport
from pipeline.destination import ClientAccess, failure_of
from pipeline.errors import FencedError, PermanentError, PipelineError, TransientError
from pipeline.failpoints import reach
from pipeline.s3 import ObjectStore
from pipeline.syncqueue import ClientSync, Hours
from syncer import manifest, upload
from syncer.building import Ahead, Builder
from syncer.content import Built
from syncer.due import why_not
from syncer.place import Destination
from syncer.plan import plan_files
from syncer.policies import Policies
from syncer.settings import SyncerSettings

log = logs.get(__name__)

MAX_OBJECTS = 50_000
"""Of one run; what is left goes with the next one."""

FRESH_SECONDS = 10.0
"""Settings older than this, after a file took long to build, are read again before its PUT."""


class NotNowError(PermanentError):
    """The client's settings forbid a delivery at present; its unfinished run waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a delivery did: the keys of the runs that it finished."""

    run_keys: tuple[str, ...]


class Deliverer:
    """Delivers to one client at a time per call; many calls may run at once."""

    def __init__(
        self,
        settings: SyncerSettings,
        *,
        pool: Pool,
        store: ClientStore,
        processed: ObjectStore,
        access: ClientAccess,
        policies: Policies,
    ) -> None:
        self._settings = settings
        self.pool = pool
        self._store = store
        self._processed = processed
        self._access = access
        self._builder = Builder(
            pool=pool,
            source=processed,
            policies=policies,
            at_once=settings.sync_builds,
            spool_bytes=settings.sync_spool_bytes,
        )

    async def deliver(self, order: ClientSync) -> Outcome:
        """Finish the client's open run, then do the ordered one. A repeated or late order does nothing.

        Raises NotNowError, RunBusyError, FencedError (another process took over), LedgerSetBackError before anything is
        done, and whatever made a run fail: it is marked then.
        """
        client = await self._client(order.client_id)
        await self.check_ledger([client.client_id])
        done = []
        owner = uuid4()
        async with connected(self.pool) as connection:
            run = await deliveries.claim(
                connection, client.client_id, owner, lease_seconds=self._settings.sync_visibility_seconds
            )
        if run is not None:
            log.info("syncer.run.resumed", client_id=run.client_id, run_key=run.run_key)
            await self._complete(run)
            done.append(run.run_key)
        run = await self._plan(client, order)
        if run is not None:
            reach("syncer.after_plan")
            await self._complete(run)
            done.append(run.run_key)
        return Outcome(run_keys=tuple(done))

    async def check_ledger(self, client_ids: Sequence[str]) -> None:
        """Raise LedgerSetBackError when one of these clients was delivered more than the ledger knows."""
        await setback.check_deliveries(self.pool, self._processed, client_ids)

    async def _client(self, client_id: str) -> Client:
        client = await self._store.get(ClientId(client_id))
        reason = why_not(client)
        if reason is not None or not isinstance(client, Client):
            raise NotNowError(f"nothing is delivered: {reason}")
        return client

    async def _plan(self, client: Client, order: ClientSync) -> Run | None:
        """The ordered run with its plan, committed; None when there is nothing to open."""
        settings, hours = self._settings, order.hours
        try:
            async with connected(self.pool) as connection, connection.transaction():
                await revisions.lock_deliveries(connection, client.client_id)  # a replay comes before or after
                run = await deliveries.begin(
                    connection,
                    client_id=client.client_id,
                    run_key=order.run_key,
                    frequency=order.reason,
                    bucket=client.client_s3_bucket,
                    prefix=client.client_s3_prefix,
                    owner=uuid4(),
                    lease_seconds=settings.sync_visibility_seconds,
                )
                if run is None:
                    return None
                previous = await deliveries.last_finished(connection, client.client_id)
                frontier = await frontier_of(
                    connection, client.client_id, slot=settings.replication_slot, topic=settings.kafka_raw_topic
                )
                limits = {"first_hour": hours.first, "last_hour": hours.last}
                objects = await delivery_plans.pending_objects(
                    connection, client.client_id, limit=MAX_OBJECTS, **limits
                )
                complete = None if hours != Hours() or len(objects) == MAX_OBJECTS else last_complete_hour(frontier)
                promised = [hour for hour in (complete, previous and previous.complete_through) if hour]
                files = plan_files(
                    objects, prefix=run.prefix, run_key=run.run_key, max_bytes=settings.delivery_max_bytes
                )
                run = await delivery_plans.add_files(connection, run, files, max(promised, default=None))
                replacements = await delivery_plans.take_replacements(connection, run, **limits)
        except UniqueViolation as error:
            raise RunBusyError("another process planned the same objects") from error
        log.info(
            "syncer.run.planned",
            client_id=run.client_id,
            run_key=run.run_key,
            files=len(files),
            replacements=replacements,
            objects=len(objects),
            events=sum(item.events for item in objects),
        )
        return run

    async def _complete(self, run: Run) -> None:
        """Deliver an owned run to its end, or mark or hand it back."""
        started = time.monotonic()
        try:
            await self._under_lease(run, self._deliver(run))
        except FencedError:
            metrics.SYNC_RUNS.labels("fenced").inc()
            log.warning("syncer.run.fenced", client_id=run.client_id, run_key=run.run_key)
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back(run))
            raise
        except Exception as error:
            await self._mark_failed(run, error)
            raise
        finally:
            metrics.SYNC_RUN_SECONDS.observe(time.monotonic() - started)
        metrics.SYNC_RUNS.labels("finished").inc()
        await self._report(
            run.client_id,
            SyncReport(at=datetime.now(UTC), run_key=run.run_key, complete_through=run.complete_through),
        )

    async def _under_lease(self, run: Run, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while the lease is renewed; stop it as soon as another process owns the run."""
        worker = asyncio.create_task(work)
        keeper = asyncio.create_task(self._keep_lease(run))
        try:
            await asyncio.wait((worker, keeper), return_when=asyncio.FIRST_COMPLETED)
            (worker if worker.done() else keeper).result()
        finally:
            for task in (worker, keeper):
                task.cancel()
            await asyncio.gather(worker, keeper, return_exceptions=True)

    async def _keep_lease(self, run: Run) -> None:
        while True:
            await asyncio.sleep(self._settings.sync_visibility_seconds / 3)
            with suppress(TransientError):  # the next try may still come in time; the ledger compares the owner anyway
                await self._renew(run)

    async def _renew(self, run: Run) -> None:
        async with connected(self.pool) as connection:
            await deliveries.renew(connection, run, self._settings.sync_visibility_seconds)

    async def _deliver(self, run: Run) -> None:
        async with AsyncExitStack() as stack:
            destination = Destination(stack, self.pool, self._store, self._access)
            ahead = await stack.enter_async_context(Ahead(self._builder))
            async with connected(self.pool) as connection:
                await records.put_plan(self._processed, connection, run.id)
            while True:
                read_at = time.monotonic()
                client = await self._client(run.client_id)
                if (client.client_s3_bucket, client.client_s3_prefix) != (run.bucket, run.prefix):
                    async with connected(self.pool) as connection:
                        run = await deliveries.retarget(
                            connection, run, client.client_s3_bucket, client.client_s3_prefix
                        )
                bucket = await destination.open(client)
                async with connected(self.pool) as connection:
                    files = await delivery_files.next_files(connection, run, limit=2)
                if not files:
                    break
                with closing(await ahead.take(files[0], client)) as built:
                    if time.monotonic() - read_at > FRESH_SECONDS and await self._client(run.client_id) != client:
                        continue
                    for following in files[1:]:
                        ahead.begin(following, client)
                    with suppress(RevisedError):  # then it is still the next file
                        await self._put_file(run, files[0], bucket, built)
            await self._deliver_manifest(run, bucket)

    async def _put_file(self, run: Run, file: OpenFile, bucket: ObjectStore, built: Built) -> None:
        """Announce, PUT, record. Raises RevisedError when the file's members were replaced meanwhile."""
        sha256 = built.content.sha256
        async with connected(self.pool) as connection:
            announced = await delivery_files.announce(connection, run, file, built.content)
        reach("syncer.after_announce")
        overwrites = False

        async def still_ours() -> None:
            nonlocal overwrites
            await self._renew(run)
            overwrites = True

        try:
            await upload.put_file(
                bucket,
                file.key,
                built.payload(),
                sha256=sha256,
                metadata=_metadata(run, built),
                announced=announced,
                still_ours=still_ours,
            )
            reach("syncer.after_put")
            async with connected(self.pool) as connection:
                await delivery_files.delivered(connection, run, file, sha256)
        except (FencedError, asyncio.CancelledError):
            if overwrites:  # maybe what our successor wrote
                await asyncio.shield(self._void(file, sha256))
            raise
        _count(run, file, built)

    async def _void(self, file: OpenFile, sha256: str) -> None:
        log.warning("syncer.file.voided", file_id=file.id)
        async with connected(self.pool) as connection:
            await delivery_files.void(connection, file, sha256)

    async def _deliver_manifest(self, run: Run, bucket: ObjectStore) -> None:
        reach("syncer.before_manifest")
        text = run.manifest
        if text is None:
            async with connected(self.pool) as connection:
                files = await delivery_files.delivered_files(connection, run)
                replaced = await delivery_files.replaced_files(connection, run)
                previous = await deliveries.last_finished(connection, run.client_id)
                text = manifest.render(run, files, replaced, previous)
                await deliveries.announce_manifest(connection, run, text, manifest.sha256_of(text))
        reach("syncer.after_manifest_row")
        await upload.put_manifest(bucket, run, text)
        await self._processed.put_new(
            records.manifest_key(run.client_id, run.run_key),
            text.encode(),
            sha256=bytes.fromhex(manifest.sha256_of(text)),
            metadata={
                "client-id": run.client_id,
                "run-key": run.run_key,
                "bucket": run.bucket,
                "prefix": quote(run.prefix),
            },
            content_type="application/json",
        )
        reach("syncer.before_latest")
        await self._renew(run)  # the last look before the one object that others overwrite too
        await upload.put_latest(bucket, run.prefix, text)
        reach("syncer.before_finish")
        try:
            async with connected(self.pool) as connection:
                await deliveries.finish(connection, run)
        except FencedError:
            await self._repair_latest(run, bucket)
            raise
        log.info("syncer.run.finished", client_id=run.client_id, run_key=run.run_key)

    async def _repair_latest(self, run: Run, bucket: ObjectStore) -> None:
        """We were paused, lost the run, and then wrote latest.json: put the newest manifest back."""
        written = -1
        while True:
            async with connected(self.pool) as connection:
                last = await deliveries.last_finished(connection, run.client_id)
            if last is None or last.id == written or (last.bucket, last.prefix) != (run.bucket, run.prefix):
                return
            await upload.put_latest(bucket, last.prefix, last.manifest)
            written = last.id

    async def _mark_failed(self, run: Run, error: Exception) -> None:
        failure = failure_of(error)
        metrics.SYNC_RUNS.labels("retried" if isinstance(error, TransientError) else "failed").inc()
        report = log.warning if isinstance(error, TransientError | NotNowError) else log.error
        report(
            "syncer.run.failed",
            client_id=run.client_id,
            run_key=run.run_key,
            error_class=failure.error_class,
            error=failure.error,
        )
        with suppress(TransientError):  # then the lease runs out instead
            async with connected(self.pool) as connection:
                await deliveries.fail(connection, run, failure.error_class, failure.error)
        await self._report(
            run.client_id,
            SyncReport(at=datetime.now(UTC), run_key=run.run_key, error_class=failure.error_class, error=failure.error),
        )

    async def _report(self, client_id: str, report: SyncReport) -> None:
        """For those who look at the client store; the ledger is what counts."""
        try:
            await self._store.report_sync(ClientId(client_id), report)
        except PipelineError as error:
            log.warning("syncer.report.failed", client_id=client_id, error=str(error))

    async def _hand_back(self, run: Run) -> None:
        with suppress(TransientError):
            async with connected(self.pool) as connection:
                await deliveries.release(connection, run)
        log.info("syncer.run.handed_back", client_id=run.client_id, run_key=run.run_key)


def _metadata(run: Run, built: Built) -> dict[str, str]:
    content = built.content
    metadata = {
        "client-id": run.client_id,
        "run-key": run.run_key,
        "events": str(content.events),
        "policy-version": content.policy_version,
    }
    if content.first_commit_time and content.last_commit_time:
        metadata["first-commit-time"] = manifest.rfc3339(content.first_commit_time)
        metadata["last-commit-time"] = manifest.rfc3339(content.last_commit_time)
    return metadata


def _count(run: Run, file: OpenFile, built: Built) -> None:
    content = built.content
    metrics.SYNC_FILES.inc()
    metrics.SYNC_EVENTS.inc(content.events)
    metrics.SYNC_BYTES.inc(content.bytes)
    metrics.SYNC_DROPPED.labels("policy").inc(content.dropped - built.unfilterable)
    if built.unfilterable:
        metrics.SYNC_DROPPED.labels("unfilterable").inc(built.unfilterable)
        log.error("syncer.events.unfilterable", client_id=run.client_id, file_id=file.id, events=built.unfilterable)
    log.info(
        "syncer.file.delivered",
        client_id=run.client_id,
        run_key=run.run_key,
        file_id=file.id,
        events=content.events,
        bytes=content.bytes,
        dropped=content.dropped,
    )
