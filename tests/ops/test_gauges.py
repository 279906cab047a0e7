"""The gauges that alerts read are what the ledger says."""

from __future__ import annotations

import psycopg
import pytest
from prometheus_client import REGISTRY

from database import gauges
from local.stack import Stack

SLOT, TOPIC = "gauge_tests", "gauge.raw"

LEDGER = f"""
INSERT INTO pipeline.epochs (epoch, system_identifier, timeline, begins_at_lsn) OVERRIDING SYSTEM VALUE
    VALUES (2000000000, 'gauges', 1, '0/0');
INSERT INTO pipeline.stream_state (slot, epoch, state, confirmed_lsn, caught_up_at)
    VALUES ('{SLOT}', 2000000000, 'streaming', '0/0', clock_timestamp() - interval '10 minutes');
UPDATE pipeline.raw_objects SET exported_at = now() - interval '9 days';
INSERT INTO pipeline.consumer_positions (topic, partition, next_offset, last_sequence, last_position)
    VALUES ('{TOPIC}', 0, 40, 39, %(position)s), ('{TOPIC}', 1, 7, 6, %(position)s);
INSERT INTO pipeline.sync_runs (client_id, run_key, frequency, status, bucket, prefix, error_class, started_at)
    VALUES ('gauge-client', 'k', 'hourly', 'failed', 'b', '', 'AccessDenied', clock_timestamp() - interval '2 hours')
"""


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_lags_waiting_events_and_failing_clients_are_shown_and_vanish(stack: Stack) -> None:
    async with await psycopg.AsyncConnection.connect(stack.postgres.dsn) as connection:
        async with connection.transaction(force_rollback=True):
            for statement in LEDGER.split(";\n"):
                names = {"position": f"{1:08X}-{1:016X}-{0:020d}"} if "%(" in statement else None
                await connection.execute(statement.encode(), names)
            await raw_object(connection, 1, '{"0": 39, "1": 6}', minutes=50)
            await raw_object(connection, 2, '{"0": 99, "1": 6}', minutes=30)
            await gauges.show(connection, slot=SLOT, topic=TOPIC)
        assert value("ledger_lag_seconds", stage="export") == pytest.approx(600, abs=30)
        assert value("ledger_lag_seconds", stage="processing") == pytest.approx(1800, abs=30)
        assert value("ledger_unprocessed_events", partition="0") == 60
        assert value("ledger_unprocessed_events", partition="1") == 0
        failing = {"client_id": "gauge-client", "error_class": "AccessDenied"}
        assert value("ledger_failing_delivery_seconds", **failing) == pytest.approx(7200, abs=30)
        await gauges.show(connection, slot=SLOT, topic=TOPIC)
    assert value("ledger_failing_delivery_seconds", **failing) is None
    assert value("ledger_lag_seconds", stage="export") == 0


async def raw_object(connection: psycopg.AsyncConnection, number: int, sequences: str, *, minutes: int) -> None:
    """A raw object whose first event was committed so many minutes ago."""
    before, last = (f"{2000000000:08X}-{number - back:016X}-{0:020d}" for back in (1, 0))
    await connection.execute(
        """
        INSERT INTO pipeline.raw_objects (bucket, key, previous_position, first_position, last_position,
            kafka_end_offsets, kafka_end_sequences, events, bytes, sha256, min_commit_time, max_commit_time)
        VALUES ('gauges', %s, %s, %s, %s, '{}', %s, 1, 1, '', clock_timestamp() - make_interval(mins => %s),
            clock_timestamp())
        """,
        (f"key-{number}", before, last, last, sequences, minutes),
    )
