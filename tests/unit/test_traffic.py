from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.traffic_clients import sort_clients
from local.traffic_events import STRAY_RATIO, EventSource, Row
from local.traffic_persons import card, in_url, ip_v4, ip_v6, luhn_digit, person
from local.traffic_plan import TokenBucket, Way, Zipf, plan_transaction
from local.traffic_record import COLUMNS, Recorder, Stored, columns_digest, raw_digest, read_record, to_line
from local.traffic_words import STRANGE_CLIENTS, TYPES
from pipeline.clients import Client, ClientId, Domain, PrivacyLevel

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLIENTS = ("alpha", "beta", "gamma", "delta")
SITES = {"alpha": ("alpha.example",), "beta": ("beta.example",)}


def ids() -> Callable[[], uuid.UUID]:
    rng = random.Random(7)
    return lambda: uuid.UUID(int=rng.getrandbits(128), version=4)


def rows(count: int, seed: int = 1) -> list[Row]:
    return EventSource(CLIENTS, seed=seed, sites=SITES, inactive=("asleep",), new_id=ids()).rows(count, NOW)


@pytest.fixture(scope="module")
def many() -> list[Row]:
    return rows(20_000)


def luhn_valid(digits: str) -> bool:
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def test_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert rows(500) == rows(500)
    assert rows(500) != rows(500, seed=2)


def test_rows_have_the_shape_of_a_pixels_event(many: list[Row]) -> None:
    assert {row.event_type for row in many} == set(TYPES)
    for row in many:
        if row.raw_event_data is None:
            continue
        document = orjson.loads(row.raw_event_data)
        members = {"eventType", "sessionId", "visitorId", "siteId", "timestamp", "url", "path", "referrer"}
        assert members | {"attribution", "browser", "gpc", "dnt"} <= document.keys()
        assert ("events" if row.event_type == "batch" else "eventData") in document
        assert b"\\u0000" not in row.raw_event_data
    texts = [row.raw_event_data for row in many if row.raw_event_data]
    assert 1000 < sum(map(len, texts)) / len(texts) < 1700
    assert any(b"1.10" in text for text in texts)
    assert any(b"123456789012345678901234567890" in text for text in texts)


def test_planted_values_are_in_the_row_as_written(many: list[Row]) -> None:
    kinds: Counter[str] = Counter()
    for row in many:
        if row.raw_event_data is None:
            continue
        text = row.raw_event_data.decode() + f" {row.ip_address} {row.url}"
        text += unquote(text)
        for kind, value in row.planted:
            assert value in text
            kinds[kind] += 1
    assert set(kinds) == {"ip", "email", "phone", "card"}
    assert min(kinds.values()) > 300


def test_each_part_of_a_batch_has_a_row_of_its_own(many: list[Row]) -> None:
    by_batch: dict[uuid.UUID, list[Row]] = {}
    for row in many[:-10]:  # the last batch may be cut
        if row.batch_id:
            by_batch.setdefault(row.batch_id, []).append(row)
    assert by_batch
    for group in list(by_batch.values())[:-1]:
        wrapper, *parts = group
        assert wrapper.event_type == "batch"
        assert wrapper.raw_event_data is not None
        assert len(orjson.loads(wrapper.raw_event_data)["events"]) == sum(p.raw_event_data is not None for p in parts)
        assert {p.session_id for p in parts} == {wrapper.session_id}


def test_sessions_have_several_events_of_one_visitor(many: list[Row]) -> None:
    visitors: dict[str | None, set[str | None]] = {}
    for row in many:
        visitors.setdefault(row.session_id, set()).add(row.visitor_id)
    assert all(len(found - {None}) <= 1 for found in visitors.values())
    assert 3 < len(many) / len(visitors) < 25


def test_stray_rows_have_no_owner_unless_a_site_names_one(many: list[Row]) -> None:
    stray = [row for row in many if row.client_id != row.owner or row.owner is None]
    assert STRAY_RATIO / 2 < len(stray) / len(many) < STRAY_RATIO * 2
    assert {row.client_id for row in stray} >= {None, "asleep", "unknown_x", *STRANGE_CLIENTS}
    by_site = [row for row in stray if row.owner]
    assert by_site
    for row in by_site:
        assert row.owner is not None
        host = SITES[row.owner][0]
        assert row.site_id == host or f"//{host}/" in (row.url or "")
        assert row.client_id is None or row.client_id.startswith(("unknown_", "error_", "unauthorized_"))
    owned = {host for hosts in SITES.values() for host in hosts}
    for row in stray:
        if row.owner is None and row.client_id not in {"asleep", *STRANGE_CLIENTS}:
            assert row.site_id not in owned
            assert not any(host in (row.url or "") for host in owned)


@given(st.integers())
def test_cards_are_luhn_valid(seed: int) -> None:
    number = card(random.Random(seed))
    assert luhn_valid("".join(c for c in number if c.isdigit()))


@given(st.text("0123456789", min_size=1, max_size=18))
def test_check_digit_makes_any_number_valid(body: str) -> None:
    assert luhn_valid(body + luhn_digit(body))


@given(st.integers())
def test_persons_are_made_up_and_their_addresses_read_as_such(seed: int) -> None:
    rng = random.Random(seed)
    who = person(rng)
    assert who.email.rpartition(".")[2] in {"com", "org", "net"}
    assert "example." in who.email
    assert in_url(who.email).count("%40") == 1
    for text in (who.ip, ip_v4(rng), ip_v6(rng)):
        assert str(ip_address(text)) == text


def test_zipf_prefers_the_first() -> None:
    rng, zipf = random.Random(3), Zipf(CLIENTS)
    counts = Counter(zipf.pick(rng) for _ in range(10_000))
    assert [client for client, _ in counts.most_common()] == list(CLIENTS)
    assert counts["alpha"] == pytest.approx(4800, rel=0.1)
    assert Zipf(["only"]).pick(rng) == "only"


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 0.5)), min_size=20, max_size=100),
    st.sampled_from([1.0, 100.0, 5000.0]),
)
def test_bucket_keeps_the_rate_whatever_the_sizes(steps: list[tuple[int, float]], rate: float) -> None:
    start = now = 100.0
    bucket, taken = TokenBucket(rate, start), 0
    for count, work in steps:
        now += bucket.take(count, now)
        taken += count
        # Never ahead of the rate; a stall is made good for two seconds at most, and so the rate may be missed.
        assert taken <= (now - start) * rate * (1 + 1e-9) + 1e-6
        now += work


def test_bucket_reaches_the_rate_when_work_takes_less_than_its_share() -> None:
    now, taken = 0.0, 0
    bucket = TokenBucket(5000, now)
    while now < 10:
        now += bucket.take(100, now) + 0.004
        taken += 100
    assert taken / now == pytest.approx(5000, rel=0.01)


def test_stall_is_made_good_for_two_seconds_only() -> None:
    bucket = TokenBucket(100, 0.0)
    assert bucket.take(200, 60.0) == 0
    assert bucket.take(100, 60.0) == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [1, 20, 500, 5000])
def test_plans_are_of_every_kind_and_small_at_low_rates(rate: float) -> None:
    rng = random.Random(5)
    plans = [plan_transaction(rng, rate) for _ in range(5000)]
    assert {plan.way for plan in plans} == (set(Way) if rate > 10 else {Way.SINGLE})
    assert max(plan.rows for plan in plans) <= max(2, rate / 10)
    assert 0.01 < sum(plan.rolled_back for plan in plans) / len(plans) < 0.06
    assert all(plan.rows >= 1 and not (plan.rolled_back and plan.aborted_rows) for plan in plans)
    assert rate == 1 or any(plan.aborted_rows for plan in plans)


def stored(number: int = 5) -> Stored:
    return Stored(
        number, "2026-11-23T12:00:00.000000Z", "203.0.113.9", "2026-11-23T12:00:01.000000Z", raw_digest(b"{}")
    )


def test_record_is_read_back_with_digests_of_the_members() -> None:
    row = rows(1)[0]
    line = orjson.loads(to_line(row, stored()))
    values = {
        **{name: getattr(row, name) for name in COLUMNS if hasattr(row, name)},
        "id": 5,
        "event_id": str(row.event_id),
        "timestamp": "2026-11-23T12:00:00.000000Z",
        "ip_address": "203.0.113.9",
        "created_at": "2026-11-23T12:00:01.000000Z",
        "batch_id": str(row.batch_id) if row.batch_id else None,
    }
    assert line["columns"] == columns_digest(values)
    assert line["columns"] != columns_digest({**values, "path": "/other"})
    assert line["raw"] == raw_digest(b"{}")


def test_record_survives_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "record"
    lines = [to_line(row, stored(n)) for n, row in enumerate(rows(3))]
    path.write_bytes(lines[0] + lines[1][:40])
    recorder = Recorder(path)
    recorder.append(lines[2:])
    recorder.close()
    found = [entry.event_id for entry in read_record(path)]
    assert found == [orjson.loads(lines[0])["event_id"], orjson.loads(lines[2])["event_id"]]


def test_hosts_count_only_when_one_client_has_had_them_for_long() -> None:
    def client(name: str, *domains: tuple[str, int], active: bool = True) -> Client:
        return Client(
            client_id=ClientId(name),
            privacy_level=PrivacyLevel.GDPR,
            is_active=active,
            domains=tuple(Domain(host=host, valid_from=NOW - timedelta(days=days)) for host, days in domains),
        )

    known = sort_clients(
        [
            client("b", ("b.example", 90), ("shared.example", 90), ("new.example", 1)),
            client("a", ("shared.example", 90)),
            client("off", ("off.example", 90), active=False),
        ],
        NOW,
    )
    assert known.active == ["a", "b"]
    assert known.inactive == ["off"]
    assert known.sites == {"b": ["b.example"]}
