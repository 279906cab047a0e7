"""`python -m local demo`: the whole pipeline on generated traffic, live; with --seconds, verified at the end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
from rich.console import Console
from rich.live import Live

from database.balance import Window
from database.reconcile import reconcile
from database.settings import DeepReconcileSettings
from local import gauge, verify
from local.leftovers import FolderInUseError, empty
from local.process import PartError
from local.replays import keep_replaying
from local.samples import SAMPLES
from local.services import SERVICES, Services
from local.stack import Stack
from local.traffic import run_traffic
from local.view import View
from pipeline.errors import PipelineError

RATE = 600.0
DRAIN_SECONDS = 240.0
"""A minute until the schedule fires, then what the machine needs."""

CLEANUP_DELAY_SECONDS = "5"
"""Short enough that a person sees events_log shrink. In production it is an hour or more."""

_LOOK_SECONDS = 1.0
_LINE_EVERY = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m local demo`."""
    parser.add_argument("--seconds", type=float, help="stop the traffic after so long, drain, verify, print the tally")
    parser.add_argument("--rate", type=float, default=RATE, help=f"rows a second (default {RATE:.0f})")
    parser.add_argument(
        "--dir", type=Path, default=Path(".local/demo"), help="emptied at the start (default .local/demo)"
    )


def main(options: argparse.Namespace) -> int:
    """The exit status: 0 when everything that was inserted arrived as it should, or after Ctrl-C without --seconds.

    1 when it did not, or a part failed; 2 when another demo runs in the folder.
    """
    try:
        return asyncio.run(_demo(options.dir, options.rate, options.seconds))
    except FolderInUseError as error:
        print(f"local demo: {error}", file=sys.stderr)
        return 2
    except (PartError, PipelineError, OSError) as error:
        print(f"local demo: {error}", file=sys.stderr)
        return 1


async def _demo(folder: Path, rate: float, seconds: float | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(folder, _say) as (stack, services):
        record = folder / "record.jsonl"
        print(f"Admin: {services.all['admin'].url} - log in with the admin key, ADMIN_API_KEY in {stack.env_file}")
        print(f"Traffic: {rate:.0f} rows a second; logs in {folder}/logs; Ctrl-C stops", flush=True)
        inserted = 0

        def progress(count: int) -> None:
            nonlocal inserted
            inserted = count

        traffic = asyncio.create_task(
            run_traffic(
                stack.environment["DATABASE_URL"],
                rate=rate,
                seconds=seconds if seconds is not None else 365 * 86400,
                record=record,
                clients=[sample.client_id for sample in SAMPLES if sample.active],
                sites={sample.client_id: sample.hosts for sample in SAMPLES if sample.active},
                inactive=[sample.client_id for sample in SAMPLES if not sample.active],
                stop=stop,
                progress=progress,
            )
        )
        view = View()
        watching = asyncio.create_task(watch(stack, view, traffic, lambda: inserted))
        await asyncio.wait({traffic, watching}, return_when=asyncio.FIRST_COMPLETED)
        inserted = await traffic
        if seconds is None or stop.is_set():
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            return 0
        drained = await watching
        left = await _rows_left(stack)
        unbalanced = await reconcile(_reconcile_settings(stack), Window())
        tally = await verify.verify(record, stack.folder / "clients.json")
        statuses = await services.stop()
    print(verify.report(tally), flush=True)
    print(f"Rows left in events_log: {left}")
    print("\n".join(str(item) for item in unbalanced) or "Ledger and objects balance, event by event")
    if not drained:
        print(f"FAILED: not everything was through after {DRAIN_SECONDS:.0f} s")
    if any(statuses.values()):
        print(f"FAILED: exit statuses {statuses}")
    return 0 if drained and not left and not unbalanced and tally.ok and not any(statuses.values()) else 1


async def _rows_left(stack: Stack) -> int:
    async with await psycopg.AsyncConnection.connect(stack.environment["DATABASE_URL"]) as connection:
        row = await (await connection.execute("SELECT count(*) FROM events_log")).fetchone()
    assert row is not None
    return int(row[0])


def _reconcile_settings(stack: Stack) -> DeepReconcileSettings:
    return DeepReconcileSettings(**{name.lower(): value for name, value in stack.environment.items()})  # type: ignore[arg-type]


@asynccontextmanager
async def running(folder: Path, say: Callable[[str], None]) -> AsyncIterator[tuple[Stack, Services]]:
    """The stack in an empty folder, and all services on it. `say` gets a line for whatever a person should know."""
    await asyncio.to_thread(empty, folder)
    stack = Stack(folder, say=say)
    await stack.start()
    try:
        environment = {**stack.environment, "CLEANUP_DELAY_SECONDS": CLEANUP_DELAY_SECONDS}
        services = Services(folder, environment, (*SERVICES, "admin"))
        await services.start(say)
        replaying = asyncio.create_task(keep_replaying(environment, folder / "logs" / "replay.log"))
        try:
            yield stack, services
        finally:
            replaying.cancel()
            await asyncio.gather(replaying, return_exceptions=True)
            await services.stop()
    finally:
        await stack.stop()


async def watch(stack: Stack, view: View, traffic: asyncio.Task[int], inserted: Callable[[], int]) -> bool:
    """Show the pipeline until everything is through, once the traffic has ended; False when that takes too long."""
    console = Console()
    live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
    deadline = None
    looks = 0
    async with await psycopg.AsyncConnection.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        with live or contextlib.nullcontext():
            while True:
                now = time.monotonic()
                found = await gauge.read(connection)
                view.add(now, inserted(), found)
                title = "draining" if traffic.done() else "pixels → PostgreSQL → Kafka → S3 → clients"
                if live is not None:
                    live.update(view.render(title))
                elif looks % _LINE_EVERY == 0:
                    _say(view.line())
                looks += 1
                if traffic.done():
                    deadline = deadline or now + DRAIN_SECONDS
                    if found.is_drained(inserted()) and found.is_clean(inserted()):
                        return True
                    if now > deadline:
                        return False
                await asyncio.sleep(_LOOK_SECONDS)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m local.demo")
    add_arguments(_parser)
    sys.exit(main(_parser.parse_args()))
