"""The syncer, from the queue to clients' buckets: receive, expand ticks, deliver, delete."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from database import preflight
from database.ledger import connected, open_pool, setback
from database.ledger.delivery_status import sync_states
from database.ledger.setback import LedgerSetBackError
from pipeline import logs, memory, metrics
from pipeline.clients import ClientStore
from pipeline.destination import ClientAccess
from pipeline.errors import PipelineError, TransientError
from pipeline.health import Health, serving
from pipeline.s3 import open_bucket
from pipeline.secrets import SecretBox
from pipeline.stores import open_store
from pipeline.syncqueue import ClientSync, Message, MessageError, Queue, Tick, open_queue, parse
from syncer.delivery import Deliverer
from syncer.due import due_clients, stale, why_not
from syncer.handling import Fate, decide
from syncer.http import add_routes
from syncer.policies import Policies
from syncer.settings import SyncerSettings
from syncer.watch import watch

log = logs.get(__name__)

PORT = 8083

CHECKED_CLIENTS = 20
"""Whose deliveries are compared with the ledger at the start, so that a ledger that was set back is told at once; each
client's are before its own."""

_MAPPED_BYTES = 32 << 20
"""Objects are smaller, and keep their memory: mapping each costs a third of the CPU that they take."""

_TURN_SECONDS = 5.0
_RECEIVE_PAUSE_SECONDS = 2.0


async def serve(settings: SyncerSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then finish or hand back what is under way."""
    memory.keep_freed(mapped_bytes=_MAPPED_BYTES)
    async with AsyncExitStack() as stack:
        deliverer, store = await stack.enter_async_context(open_deliverer(settings))
        queue = await stack.enter_async_context(
            open_queue(settings.sync_queue_url, region=settings.aws_region, endpoint_url=settings.aws_endpoint_url)
        )
        syncer = Syncer(settings, queue=queue, store=store, deliverer=deliverer)
        app = syncer.health.app(settings, "syncer")
        add_routes(app, pool=deliverer.pool, store=store, queue=queue)
        await stack.enter_async_context(serving(app, settings, PORT))
        watching = asyncio.create_task(watch(deliverer.pool, store))
        stack.callback(watching.cancel)
        try:
            await syncer.run(stop)
        except LedgerSetBackError as error:
            await setback.refuse(error, syncer.health, stop)


@asynccontextmanager
async def open_deliverer(settings: SyncerSettings) -> AsyncIterator[tuple[Deliverer, ClientStore]]:
    """What a delivery needs, checked. Raises ConfigError with the variable and the mend."""
    async with AsyncExitStack() as stack:
        box = SecretBox([key.get_secret_value() for key in settings.credentials_keys])
        await preflight.require(None, settings.ledger_dsn)
        pool = await stack.enter_async_context(open_pool(settings.ledger_dsn, max_size=8))
        processed = await stack.enter_async_context(open_bucket(settings.processed_bucket, max_connections=64))
        await preflight.require_bucket(processed, "PROCESSED_S3_BUCKET")
        store = await open_store(
            kind=settings.client_store, project=settings.google_cloud_project, dsn=settings.ledger_dsn
        )
        stack.push_async_callback(store.close)
        deliverer = Deliverer(
            settings,
            pool=pool,
            store=store,
            processed=processed,
            access=ClientAccess(settings, box),
            policies=Policies(box),
        )
        yield deliverer, store


class Syncer:
    """The loop, and the messages under way."""

    def __init__(self, settings: SyncerSettings, *, queue: Queue, store: ClientStore, deliverer: Deliverer) -> None:
        self._settings = settings
        self._queue = queue
        self._store = store
        self._deliverer = deliverer
        self._under_way: set[asyncio.Task[None]] = set()
        self._refused: LedgerSetBackError | None = None
        self._outcomes: Counter[str] = Counter()
        self.health = Health(status=self.status, ready=self._ready)

    def status(self) -> dict[str, Any]:
        """What /status shows."""
        return {
            "under_way": len(self._under_way),
            "concurrency": self._settings.sync_concurrency,
            "messages": dict(self._outcomes),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until `stop` is set, at most as much as there is room for; then drain.

        Raises LedgerSetBackError, at the start or when a delivery has found it out.
        """
        with suppress(TransientError):  # what is away now is asked again before each delivery
            clients = await self._store.changed_since(None)
            served = sorted(client.client_id for client in clients if why_not(client) is None)
            await self._deliverer.check_ledger(served[:CHECKED_CLIENTS])
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                if self._refused is not None:
                    raise self._refused
                self.health.turned()
                room = self._settings.sync_concurrency - len(self._under_way)
                if room <= 0:
                    await asyncio.wait(
                        {*self._under_way, stopping}, timeout=_TURN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    continue
                for message in await self._receive(room, stopping):
                    task = asyncio.create_task(self._handle(message))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
        finally:
            stopping.cancel()
            await self._drain()

    async def _receive(self, room: int, stopping: asyncio.Task[Any]) -> list[Message]:
        """The next messages; none when it is time to stop, or the queue does not answer (after a pause)."""
        receiving = asyncio.create_task(self._queue.receive(room, self._settings.sync_visibility_seconds))
        await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            # What the poll was about to bring comes back by itself when its invisibility ends.
            receiving.cancel()
            with suppress(asyncio.CancelledError, PipelineError):
                await receiving
            return []
        try:
            return receiving.result()
        except PipelineError as error:
            log.warning("syncer.queue.failed", error=str(error), error_class=type(error).__name__)
            await asyncio.wait({stopping}, timeout=_RECEIVE_PAUSE_SECONDS)
            return []

    async def _drain(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._settings.sync_drain_seconds)
        left = list(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _handle(self, message: Message) -> None:
        """Do what `message` asks for; delete it, or hide it until it is worth another try."""
        error: Exception | None = None
        keeper = asyncio.create_task(self._keep_invisible(message))
        try:
            await self._work(message)
        except asyncio.CancelledError:
            with suppress(PipelineError):
                await asyncio.shield(self._queue.hide(message, 0))
            raise
        except LedgerSetBackError as caught:
            error = self._refused = caught
        except Exception as caught:
            error = caught
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        decision = decide(
            error,
            message.receives,
            self._queue.max_receives,
            lease_seconds=self._settings.sync_visibility_seconds,
        )
        self._report(message, error, decision.outcome)
        try:
            if decision.fate is Fate.DELETE:
                await self._queue.delete(message)
            else:
                await self._queue.hide(message, decision.seconds)
        except PipelineError as failed:  # it comes back by itself, and repeats are harmless
            log.warning("syncer.queue.failed", error=str(failed), error_class=type(failed).__name__)

    async def _work(self, message: Message) -> None:
        match parse(message.body, datetime.now(UTC)):
            case Tick() as tick:
                await self._expand(tick)
            case ClientSync() as order:
                logs.get(__name__).debug("syncer.order.received", client_id=order.client_id, run_key=order.run_key)
                await self._deliverer.deliver(order)

    async def _expand(self, tick: Tick) -> None:
        """One message per due client, before the tick's own message goes."""
        if stale(tick, datetime.now(UTC)):
            log.info("syncer.tick.skipped", frequency=tick.frequency.value, reason="a later one has come")
            return
        clients = await self._store.changed_since(None)
        async with connected(self._deliverer.pool) as connection:
            states = await sync_states(connection)
        orders, skipped = due_clients(clients, states, tick)
        await self._queue.send([order.to_body() for order in orders])
        log.info("syncer.tick.expanded", frequency=tick.frequency.value, due=len(orders), skipped=skipped)

    async def _keep_invisible(self, message: Message) -> None:
        seconds = self._settings.sync_visibility_seconds
        while True:
            await asyncio.sleep(seconds / 3)
            with suppress(PipelineError):  # the next try may still come in time, and repeats are harmless
                await self._queue.hide(message, seconds)

    def _report(self, message: Message, error: Exception | None, outcome: str) -> None:
        metrics.SYNC_MESSAGES.labels(outcome).inc()
        self._outcomes[outcome] += 1
        fields = {"message_id": message.id, "receives": message.receives, "outcome": outcome}
        if isinstance(error, MessageError):
            log.error("syncer.message.rejected", reason=str(error), **fields)
        elif isinstance(error, PipelineError):
            log.warning("syncer.message.failed", reason=str(error), error_class=type(error).__name__, **fields)
        elif error is not None:
            log.error("syncer.message.crashed", error_class=type(error).__name__, exc_info=error, **fields)

    async def _ready(self) -> str | None:
        async with connected(self._deliverer.pool) as connection:
            await connection.execute("SELECT FROM pipeline.sync_runs LIMIT 1")
        await self._queue.check()
        return None
