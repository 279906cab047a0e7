"""`python -m processor replay`: what was processed is attributed and filtered anew, by the settings of now."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from database.ledger.replays import Order
from pipeline import logs
from pipeline.clients import CLIENT_ID
from pipeline.errors import ConfigError, PipelineError
from pipeline.syncqueue import Hours, HoursError
from processor.replay.pipeline import replay_now, resume, run_requested
from processor.settings import ProcessorSettings

Work = Callable[[ProcessorSettings], Awaitable[None]]

_NICE = 10
"""A live processor on the same machine goes first."""

_INTERRUPTED = "replay interrupted; go on with --resume ID, or --requested"


def main(arguments: list[str]) -> int:
    """The exit status: 0 done, 1 failed (standard error says why), 2 set up or used wrongly. The summary is printed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        work = _work(options, datetime.now(UTC))
    except (HoursError, ConfigError) as error:
        parser.error(str(error))
    try:
        settings = ProcessorSettings.load()
        logs.configure("processor", settings.log_level)
        os.nice(_NICE)
        return 0 if asyncio.run(_until_signal(work(settings))) else _say(_INTERRUPTED, 1)
    except ConfigError as error:
        return _say(str(error), 2)
    except PipelineError as error:
        return _say(str(error), 1)


def _say(text: str, status: int) -> int:
    print(f"processor: {text}", file=sys.stderr)  # noqa: T201 - for a person
    return status


def _work(options: argparse.Namespace, now: datetime) -> Work:
    """What is to be done. Raises HoursError or ConfigError for options that can't be meant."""
    if options.requested:
        return lambda settings: run_requested(settings, _print)
    if options.resume is not None:
        return lambda settings: resume(settings, options.resume, _print)
    order = order_of(options, now)
    return lambda settings: replay_now(settings, order, _print)


def order_of(options: argparse.Namespace, now: datetime) -> Order:
    """The order that the options describe. Raises HoursError or ConfigError."""
    # The hour that is under way may be named by its end; it is replayed as far as it has been processed.
    hours = Hours.parse(options.since, options.until, now + timedelta(hours=1))
    if hours.first is None or hours.last is None:
        raise ConfigError("--since and --until are needed (or --resume ID, or --requested)")
    if options.client is not None and not CLIENT_ID.fullmatch(options.client):
        raise ConfigError("--client is no client id")
    return Order(
        client_id=options.client,
        first_hour=hours.first,
        last_hour=hours.last,
        source=options.source,
        quarantine=options.quarantine,
        dry_run=options.dry_run,
    )


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    sys.stdout.flush()


async def _until_signal(work: Awaitable[None]) -> bool:
    """False when a signal came first: what was committed stays, the rest can be resumed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    worker, stopped = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait((worker, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if worker.done():
        worker.result()
        return True
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m processor replay",
        description="Attribute and filter events anew that were processed before; prints a summary as JSON.",
    )
    parser.add_argument("--since", metavar="HOUR", help="first hour of commit time, e.g. 2026-11-23T05 (UTC)")
    parser.add_argument("--until", metavar="HOUR", help="last hour, included")
    parser.add_argument("--client", metavar="ID", help="this client's events only; default: all active clients'")
    parser.add_argument(
        "--source",
        choices=("auto", "kafka", "raw"),
        default="auto",
        help="auto: Kafka where it reaches, else raw files",
    )
    parser.add_argument(
        "--quarantine", action="store_true", help="events in quarantine: those whose client is known now are released"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    parser.add_argument("--resume", metavar="ID", type=int, help="go on with a replay that was interrupted or failed")
    parser.add_argument("--requested", action="store_true", help="run what was requested by the admin, then end")
    return parser
