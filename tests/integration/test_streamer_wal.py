"""The source keeps no more WAL than it may: a slot that is lost to that limit is replaced, the table has the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local import ports
from local.postgres import Postgres, new_password
from local.stack import Stack
from tests.integration.streamer_scene import Scene, eventually, open_scene


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    """The source on a server of its own that keeps two segments of WAL; the ledger on the stack's."""
    settings = {"fsync": "off", "shared_buffers": "32MB", "max_slot_wal_keep_size": "32MB", "min_wal_size": "32MB"}
    port = ports.choose(("server",), {})["server"]
    server = Postgres(tmp_path / "server", port, password=new_password(), settings=settings)
    await server.start()
    try:
        async with open_scene(stack, tmp_path, postgres=server, ledger=stack.postgres) as scene:
            yield scene
    finally:
        await server.stop()


async def test_slot_lost_to_the_wal_limit_warns_first_is_replaced_and_the_gap_is_counted(scene: Scene) -> None:
    streamer = await scene.streamer(RAW_FLUSH_SECONDS="600").start()  # nothing is confirmed: the file stays open
    await streamer.until_state("streaming")
    await scene.insert(7)

    async def endangered() -> bool:
        await scene.fetch("SELECT pg_logical_emit_message(false, 'x', repeat('x', 8000000))")
        answer = await streamer.get("/readyz")
        return answer is not None and answer.status_code == 503 and "slot is in danger" in answer.text

    await eventually(endangered, what="readiness says it")
    assert streamer.logged("streamer.slot.endangered")
    assert await streamer.metric("streamer_slot_in_danger") == 1
    await streamer.kill()
    await scene.insert(11)

    async def lost() -> bool:
        await scene.fetch("SELECT pg_logical_emit_message(false, 'x', repeat('x', 16000000)), pg_switch_wal()")
        async with scene.connect(user="postgres") as connection:
            await connection.execute("CHECKPOINT")
        found = await scene.fetch("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", scene.slot)
        return bool(found == ("lost",))

    await eventually(lost, seconds=60, what="the server gives the slot up")
    streamer = await scene.streamer("second").start()
    await scene.insert(5)
    await scene.until_recorded()
    await streamer.until_state("streaming")
    (finished,) = streamer.logged("streamer.snapshot.finished")
    assert finished["reason"] == "slot_lost"
    assert finished["events"] >= 11  # Kafka may have had some of the first seven
    assert await streamer.metric('streamer_snapshots_total{reason="slot_lost"}') == 1

    async def ready() -> bool:
        answer = await streamer.get("/readyz")
        return answer is not None and answer.status_code == 200

    await eventually(ready, what="the new slot is in no danger")
    assert await streamer.stop() == 0
    await scene.check()
