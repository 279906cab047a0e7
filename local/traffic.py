"""`python -m local traffic`: realistic events, at a steady rate, into the events_log of DATABASE_URL."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from local.traffic_clients import KnownClients, known_clients
from local.traffic_events import EventSource
from local.traffic_plan import TokenBucket, plan_transaction
from local.traffic_record import Recorder, to_line
from local.traffic_writer import Writer
from pipeline.errors import ConfigError, PipelineError

WRITERS = 3
"""Connections. More than one, so that commits come in another order than ids, as from a real collector."""


async def run_traffic(
    dsn: str,
    *,
    rate: float,
    seconds: float,
    record: Path | None,
    clients: Sequence[str],
    seed: int | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[int], None] | None = None,
    sites: Mapping[str, Sequence[str]] | None = None,
    inactive: Sequence[str] = (),
) -> int:
    """Insert `rate` rows a second for `seconds`, or until `stop` is set. Returns how many were committed.

    `clients`: active ones, the busiest first; with `sites`, their hosts by the client store, some rows name their
    client by host alone; `inactive` clients get a few rows that nobody may receive. `record`: the file for the check,
    see `local.traffic_record`. `progress` is told the count so far after each commit. A cancelled call finishes the
    transactions at hand first. Raises TransientError when the database stays away, PermanentError when it refuses.
    """
    source = EventSource(clients, seed=seed, sites=sites, inactive=inactive)
    recorder = Recorder(record) if record else None
    ended = asyncio.Event()  # not the caller's `stop`, which may mean more than us
    traffic = _Traffic(source, recorder, rate, seconds, random.Random(seed), ended, progress)
    writers = [Writer(dsn, ended) for _ in range(WRITERS)]
    relay = asyncio.create_task(_relay(stop, ended)) if stop else None
    try:
        await writers[0].connect()  # a wrong address should be an error, not a long wait
        await traffic.run(writers)
    finally:
        if relay:
            relay.cancel()
        for writer in writers:
            await writer.close()
        if recorder:
            recorder.close()
    return traffic.committed


async def _relay(stop: asyncio.Event, ended: asyncio.Event) -> None:
    await stop.wait()
    ended.set()


class _Traffic:
    """What the connections share."""

    def __init__(
        self,
        source: EventSource,
        recorder: Recorder | None,
        rate: float,
        seconds: float,
        rng: random.Random,
        stop: asyncio.Event,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._source, self._recorder, self._rng = source, recorder, rng
        self._rate, self._stop, self._progress = rate, stop, progress
        now = time.monotonic()
        self._end = now + seconds
        self._bucket = TokenBucket(rate, now)
        self.committed = 0

    async def run(self, writers: Sequence[Writer]) -> None:
        """Until the end, by all of `writers`."""
        tasks = [asyncio.create_task(self._write(writer)) for writer in writers]
        try:
            await asyncio.wait(tasks)  # being cancelled here leaves the tasks to finish what they are at
        finally:
            self._stop.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write(self, writer: Writer) -> None:
        try:
            while not self._stop.is_set():
                plan = plan_transaction(self._rng, self._rate)
                wait = self._bucket.take(0 if plan.rolled_back else plan.rows, time.monotonic())
                if not await self._wait(wait):
                    return
                now = datetime.now(UTC)
                rows = self._source.rows(plan.rows, now)
                aborted = self._source.rows(plan.aborted_rows, now)
                stored = await writer.write(plan, rows, aborted)
                if stored is None:
                    continue
                if self._recorder:
                    self._recorder.append(map(to_line, rows, stored))
                self.committed += len(rows)
                if self._progress:
                    self._progress(self.committed)
        except BaseException:
            self._stop.set()  # one connection's end is the end of all
            raise

    async def _wait(self, seconds: float) -> bool:
        """Wait for `seconds`; False when the end or `stop` comes first."""
        left = self._end - time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), min(seconds, max(0.0, left)))
        return seconds < left and not self._stop.is_set()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m local traffic`."""
    parser.add_argument("--rate", type=_positive, default=100.0, help="rows a second (default 100)")
    parser.add_argument("--seconds", type=_positive, default=60.0, help="how long (default 60)")
    parser.add_argument("--record", type=Path, help="append what was committed to this file, for `local.verify`")
    parser.add_argument("--seed", type=int, help="the same seed makes the same rows, but for times and event ids")
    parser.add_argument("--clients", help="comma-separated client ids; default: the active ones of the client store")


def main(args: argparse.Namespace) -> int:
    """Run with parsed arguments and DATABASE_URL. Exit status: 0; 1 when the database failed; 2 for wrong settings."""
    try:
        count = asyncio.run(_main(args))
    except ConfigError as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 2
    except PipelineError as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 1
    print(f"{count} rows committed")
    return 0


async def _main(args: argparse.Namespace) -> int:
    dsn = os.environ.get("DATABASE_URL", "")
    if not dsn:
        raise ConfigError("DATABASE_URL is missing")
    if args.clients:
        known = KnownClients(active=[name.strip() for name in args.clients.split(",") if name.strip()])
    else:
        known = await known_clients()
    if not known.active:
        raise ConfigError("there is no active client", hint="add one, or name some with --clients")
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    return await run_traffic(
        dsn,
        rate=args.rate,
        seconds=args.seconds,
        record=args.record,
        clients=known.active,
        seed=args.seed,
        stop=stop,
        sites=known.sites,
        inactive=known.inactive,
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="python -m local.traffic")
    add_arguments(_parser)
    sys.exit(main(_parser.parse_args()))
