"""`python -m database layout`: how events are spread over partitions, and how they shall be from now on."""

from __future__ import annotations

import argparse
import asyncio
import time

from psycopg import AsyncConnection

from database import preflight
from database.ledger import audit, connected, layouts, open_pool
from database.ledger.layouts import LayoutRequest
from database.settings import LayoutSettings
from pipeline import logs
from pipeline.errors import ConfigError
from pipeline.layout import Layout

MOST_PARTITIONS = 100_000
"""More than a cluster carries: a slip of the finger."""

_ASK_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command; without any it shows what is in force."""
    parser.add_argument(
        "--partitions", type=int, metavar="N", help="spread events over N partitions; the topic has them"
    )
    parser.add_argument(
        "--fan-out",
        type=_width,
        action="append",
        default=[],
        metavar="KEY=N",
        help="spread the sessions of a client_id (or site_id, where rows have none) over N partitions; 1 takes it back",
    )
    parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="for a streamer to do it (30)")


async def run(options: argparse.Namespace) -> int:
    """Exit status: 0 when all that is asked for is in force, 1 when it isn't yet."""
    settings = LayoutSettings.load()
    logs.configure("database", settings.log_level)
    await preflight.require_reachable(settings.ledger_dsn)
    topic = settings.kafka_raw_topic
    async with open_pool(settings.ledger_dsn) as pool:
        if options.partitions is not None or options.fan_out:
            async with connected(pool) as connection, connection.transaction():
                await _request(connection, topic, options.partitions, dict(options.fan_out))
            deadline = time.monotonic() + options.wait
            while time.monotonic() < deadline:
                async with connected(pool) as connection:
                    left = await layouts.requested(connection, topic)
                if left is None or left.problem:
                    break
                await asyncio.sleep(_ASK_SECONDS)
        async with connected(pool) as connection:
            in_force = await layouts.layouts_of(connection, topic)
            left = await layouts.requested(connection, topic)
    for layout in in_force:
        print(f"{topic} from {layout.from_position}: {_text(layout)}")  # noqa: T201 - a command's answer
    if left is not None:
        why = left.problem or "no streamer has taken it up: it will as soon as one runs"
        print(f"requested: {_text(left.from_position(in_force.current.from_position))}; {why}")  # noqa: T201
        return 1
    return 0


async def _request(connection: AsyncConnection, topic: str, partitions: int | None, changes: dict[str, int]) -> None:
    """Ask for what is in force, or was asked for already, with `changes`. Raises ConfigError for what can't be."""
    current = (await layouts.layouts_of(connection, topic)).current
    before = await layouts.requested(connection, topic) or LayoutRequest(
        partitions=current.partitions, fanout={key.decode(): width for key, width in current.fanout.items()}
    )
    wanted = LayoutRequest(
        partitions=before.partitions if partitions is None else partitions,
        fanout={key: width for key, width in (before.fanout | changes).items() if width != 1},
    )
    if not 1 <= wanted.partitions <= MOST_PARTITIONS:
        raise ConfigError(f"--partitions is wrong: 1 to {MOST_PARTITIONS}")
    for key, width in wanted.fanout.items():
        if not 1 <= width <= wanted.partitions:
            raise ConfigError(f"--fan-out is wrong: {key} over {width} of {wanted.partitions} partitions")
    if wanted.from_position(current.from_position) == current:
        return
    await layouts.request(connection, topic, wanted)
    await audit.append(
        connection,
        actor="operator",
        action="layout.requested",
        client_id=None,
        subject=topic,
        details={"partitions": wanted.partitions, "fanout": wanted.fanout},
    )


def _width(text: str) -> tuple[str, int]:
    key, equals, width = text.rpartition("=")
    if not equals or not width.isdigit() or not key:
        raise argparse.ArgumentTypeError("KEY=N is expected")
    return key, int(width)


def _text(layout: Layout) -> str:
    fanned = "".join(f", {key.decode()} over {width}" for key, width in sorted(layout.fanout.items()))
    return f"{layout.partitions} partitions{fanned}"
