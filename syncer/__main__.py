"""`python -m syncer`: the service. `python -m syncer run --client ID [--since HOUR] [--until HOUR]`: one delivery."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

import orjson

from pipeline.clients import ClientId
from pipeline.service import run
from syncer.delivery import Hours
from syncer.messages import MANUAL, ClientSync, run_key
from syncer.pipeline import open_deliverer, serve
from syncer.settings import SyncerSettings


def main(arguments: list[str]) -> int:
    """The exit status: 0 done, 1 failed (the log says why), 2 set up wrongly or used wrongly."""
    parser = argparse.ArgumentParser(prog="python -m syncer", description="Without a command: the service.")
    commands = parser.add_subparsers(dest="command")
    once = commands.add_parser("run", help="deliver to one client now, then end")
    once.add_argument("--client", required=True, metavar="ID")
    once.add_argument("--since", type=_hour, metavar="HOUR", help="first hour, e.g. 2026-11-23T05")
    once.add_argument("--until", type=_hour, metavar="HOUR", help="last hour, included")
    options = parser.parse_args(arguments)
    if options.command is None:
        return run("syncer", SyncerSettings, serve)
    return run("syncer", SyncerSettings, lambda settings, stop: _run_once(settings, stop, options))


async def _run_once(settings: SyncerSettings, stop: asyncio.Event, options: argparse.Namespace) -> None:
    order = ClientSync(client_id=ClientId(options.client), run_key=run_key(datetime.now(UTC), MANUAL))
    async with open_deliverer(settings) as (deliverer, _):
        delivering = asyncio.create_task(deliverer.deliver(order, Hours(first=options.since, last=options.until)))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({delivering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not delivering.done():
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
            return
        outcome = delivering.result()
    sys.stdout.write(orjson.dumps({"client_id": order.client_id, "runs": outcome.run_keys}).decode() + "\n")


def _hour(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("not an hour; expected e.g. 2026-11-23T05") from None
    time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    return time.replace(minute=0, second=0, microsecond=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
