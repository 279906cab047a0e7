"""What people ask of the other services: deliver now, test a bucket, replay hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from admin import clients
from admin.desk import Desk
from admin.identity import Identity
from admin.ledger import quarantine
from admin.problems import Fault, Problem
from database.ledger import audit, connected, replays
from database.ledger.replays import Order
from pipeline.clients import Client
from pipeline.destination import ConnectionReport, test_connection
from pipeline.syncqueue import Hours, manual_order, open_queue

LONGEST_REPLAY = timedelta(days=400)


async def sync(desk: Desk, client: Client, who: Identity, *, since: datetime | None, until: datetime | None) -> str:
    """Order a delivery, of certain hours if they are given; returns its run key.

    Raises Problem 409 when nothing could be delivered, 422 for hours that can't be meant; PipelineError without queue.
    """
    if reason := clients.undeliverable(client):
        raise Problem(409, f"nothing can be delivered: {reason}")
    now = datetime.now(UTC)
    if since and since > now:
        raise Problem(422, "these hours can't be delivered", [Fault(field="since", message="lies in the future")])
    if since and until and since > until:
        raise Problem(422, "these hours can't be delivered", [Fault(field="until", message="lies before since")])
    hours = Hours(first=_hour(since), last=_hour(min(until, now) if until else None))
    order = manual_order(client.client_id, now, hours)
    said = {"run": order.run_key, "since": _text(hours.first), "until": _text(hours.last)}
    await desk.note(who, "client.sync_ordered", client.client_id, said)  # first: an entry too many is no harm
    settings = desk.settings
    async with open_queue(
        settings.sync_queue_url, region=settings.aws_region, endpoint_url=settings.aws_endpoint_url
    ) as queue:
        await queue.send([order.to_body()])
    return order.run_key


async def test(desk: Desk, client: Client, who: Identity) -> ConnectionReport:
    """Try the client's bucket as it stands in `client`, stored or not."""
    report = await test_connection(client, desk.access)
    said = {
        "ok": report.ok,
        "bucket": client.client_s3_bucket,
        "code": next((s.code for s in report.steps if s.code), ""),
    }
    await desk.note(who, "client.connection_tested", client.client_id, said)
    return report


async def replay(desk: Desk, order: Order, who: Identity) -> int:
    """Ask for a replay; returns its id. Raises Problem 422 for hours that can't be meant."""
    first, last = _hour(order.first_hour), _hour(order.last_hour)
    assert first is not None
    assert last is not None
    if first > last:
        raise Problem(
            422, "these hours can't be replayed", [Fault(field="last_hour", message="lies before first_hour")]
        )
    if last - first > LONGEST_REPLAY or first > datetime.now(UTC):
        raise Problem(422, "these hours can't be replayed", [Fault(field="first_hour", message="is too far away")])
    order = Order(
        client_id=order.client_id,
        first_hour=first,
        last_hour=last,
        source=order.source,
        quarantine=order.quarantine,
        dry_run=order.dry_run,
    )
    said = {
        "first_hour": _text(first),
        "last_hour": _text(last),
        "source": order.source,
        "quarantine": order.quarantine,
        "dry_run": order.dry_run,
    }
    async with connected(desk.pool) as connection, connection.transaction():
        number = await replays.request(connection, order, who.name)
        await audit.append(
            connection,
            actor=who.name,
            action="replay.requested",
            client_id=order.client_id,
            subject=f"replay {number}",
            details=said,
        )
    return number


async def replay_quarantine(desk: Desk, since: datetime, who: Identity) -> int | None:
    """Ask for a replay of what lies in quarantine since then; None when nothing does."""
    async with connected(desk.pool) as connection:
        hours = await quarantine.hours(connection, _hour(since))
    if hours is None:
        return None
    return await replay(desk, Order(client_id=None, first_hour=hours[0], last_hour=hours[1], quarantine=True), who)


def _hour(moment: datetime | None) -> datetime | None:
    return moment and moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
