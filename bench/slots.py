"""`python -m bench.slots`: one backlog drained by one, two and four slots, each with a row filter. Prints JSON.

Past the limit of one slot each further one decodes all WAL again but sends only its share, so what matters is the CPU
time of the busiest walsender: with a core for each, the backlog takes that long. `pg_recvlogical` reads into nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.streamer import insert
from database.migrate import migrate
from local import ports
from local.postgres import Postgres, new_password
from pipeline.position import Lsn

_LOOK_SECONDS = 0.02


async def measure(events: int, numbers: list[int]) -> dict[str, Any]:
    """For each number of slots: seconds, and CPU of the walsenders in microseconds per event of the whole backlog."""
    with tempfile.TemporaryDirectory(prefix="bench-slots-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server's user has to get through
        server = Postgres(
            Path(folder) / "postgres",
            ports.choose(("bench",), {})["bench"],
            password=new_password(),
            settings={"fsync": "off", "logical_decoding_work_mem": "64MB"},
        )
        await server.start()
        try:
            await migrate(server.dsn, server.dsn)
            return await _measure(server, events, numbers)
        finally:
            await server.stop()


async def _measure(server: Postgres, events: int, numbers: list[int]) -> dict[str, Any]:
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        for number in numbers:
            for part in range(number):
                name = f"bench_{number}_{part}"
                await connection.execute(
                    f"CREATE PUBLICATION {name} FOR TABLE events_log WHERE (id % {number} = {part})"
                    " WITH (publish = 'insert')".encode()
                )
                await connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        await insert(server.dsn, events)
        row = await (await connection.execute("SELECT pg_current_wal_lsn()::text")).fetchone()
        assert row is not None
        await connection.execute("SELECT pg_logical_emit_message(true, 'bench', 'end')")
        found: dict[str, Any] = {}
        for number in numbers:
            names = [f"bench_{number}_{part}" for part in range(number)]
            start = time.monotonic()
            cpu = await asyncio.gather(*(_drain(server, name, Lsn.parse(row[0])) for name in names))
            seconds = time.monotonic() - start
            found[str(number)] = {
                "seconds": round(seconds, 2),
                "events_per_second_here": round(events / seconds),
                "busiest_walsender_us_per_event": round(max(cpu) / events * 1e6, 2),
                "all_walsenders_us_per_event": round(sum(cpu) / events * 1e6, 2),
                "events_per_second_with_a_core_each": round(events / max(cpu)),
            }
        return found


async def _drain(server: Postgres, name: str, end: Lsn) -> float:
    """Read one slot to its end; CPU seconds of its walsender."""
    reader = await asyncio.create_subprocess_exec(
        server.bin_folder / "pg_recvlogical", "-d", server.dsn, "--slot", name, "--start", "-f", os.devnull,
        "--endpos", str(end), "-o", "proto_version=1", "-o", f"publication_names={name}", "--no-loop",
    )  # fmt: skip
    waiting = asyncio.create_task(reader.wait())
    walsender: psutil.Process | None = None
    seconds = 0.0
    async with await psycopg.AsyncConnection.connect(server.admin_dsn, autocommit=True) as connection:
        while not waiting.done():
            if walsender is None:
                query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
                row = await (await connection.execute(query, (name,))).fetchone()
                walsender = psutil.Process(row[0]) if row else None
            else:
                with suppress(psutil.Error):
                    times = walsender.cpu_times()
                    seconds = times.user + times.system
            await asyncio.sleep(_LOOK_SECONDS)
    assert waiting.result() == 0
    return seconds


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.slots", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    results = asyncio.run(measure(options.events, options.slots))
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    print(json.dumps({"part": "slots", "machine": machine, "events": options.events, "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
