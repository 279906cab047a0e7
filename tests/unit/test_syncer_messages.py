"""Messages of the queue: ours are read, everything else raises the parser's own error and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clients import SyncFrequency
from pipeline.syncqueue import ClientSync, MessageError, Tick, parse, run_key, run_time

NOW = datetime(2026, 11, 23, 5, 0, 30, tzinfo=UTC)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
names = st.sampled_from(["client_id", "run_key", "sync_frequency", "time", "other"])
likely = st.sampled_from(["hourly", "c1", "20261123T0500-hourly", "2026-11-23T05:00:00Z", "99999999T9999-daily"])


def test_tick_of_the_rules_input_transformer_is_read() -> None:
    tick = parse('{"sync_frequency": "hourly", "time": "2026-11-23T05:00:00Z"}', NOW)
    assert tick == Tick(frequency=SyncFrequency.HOURLY, time=datetime(2026, 11, 23, 5, tzinfo=UTC))


def test_order_survives_its_own_text() -> None:
    order = ClientSync(client_id="a-b_9", run_key="20261123T0500-weekly")  # type: ignore[arg-type]
    assert parse(order.to_body(), NOW) == order
    assert order.reason == "weekly"


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_text_raises_only_the_parsers_error(body: str) -> None:
    with pytest.raises(MessageError):
        parse(body, NOW)


@given(values | st.dictionaries(names, values | likely))
def test_any_json_is_read_or_raises_only_the_parsers_error(value: Any) -> None:
    try:
        message = parse(json.dumps(value), NOW)
    except MessageError:
        return
    if isinstance(message, ClientSync):
        assert run_time(message.run_key) <= NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "body",
    [
        '{"client_id": "c", "run_key": "20261123T0702-hourly"}',  # two hours ahead
        '{"client_id": "c", "run_key": "20261323T0500-hourly"}',  # month 13
        '{"client_id": "c", "run_key": "20261123T0500-../../x"}',
        '{"client_id": "../c", "run_key": "20261123T0500-hourly"}',
        '{"client_id": "c"}',
        '{"sync_frequency": "hourly"}',
        '{"sync_frequency": "yearly", "time": "2026-11-23T05:00:00Z"}',
        '{"sync_frequency": "hourly", "time": "2126-11-23T05:00:00Z"}',
        '{"sync_frequency": "hourly", "time": "0001-01-01T00:00:00+14:00"}',
        "[" * 100_000,
        "[]",
        "",
    ],
)
def test_malformed_messages_are_refused_without_being_quoted(body: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse(body, NOW)
    assert len(str(caught.value)) < 80


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(9999, 12, 30), timezones=st.timezones()),
    st.sampled_from(["hourly", "daily", "weekly", "manual"]),
)
def test_run_keys_hold_their_time_and_sort_by_it(time: datetime, reason: str) -> None:
    key = run_key(time, reason)
    expected = time.astimezone(UTC).replace(microsecond=0)
    assert run_time(key) == (expected if reason == "manual" else expected.replace(second=0))
    later = run_key(time.astimezone(UTC) + timedelta(minutes=1), "daily")
    assert key < later
