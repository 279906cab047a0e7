"""Chunks, the sequence check and an event's fate: counted once, filed under the right client, never leaked."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.ledger.chunks import ConsumerPosition
from pipeline.clients import Client, ClientId, PrivacyLevel, UnreadableClient
from pipeline.hosts import names_of
from pipeline.keys import hour_of, processed_key, source_client_id
from pipeline.position import ZERO, Position
from pipeline.privacy import Policy, compile_policy
from pipeline.record import text_column
from processor.chunk import MAX_BYTES, MAX_DRAFTS, MAX_EVENTS, Chunk
from processor.outcome import Outcome, decide
from processor.sequence import Verdict, judge

HOUR = 3_600_000_000
NOW = 480_000 * HOUR
START = ConsumerPosition(next_offset=10, last_sequence=4, last_position=Position(1, 100, 2))


def record(client_id: str | None, site_id: str = "", url: str = "") -> bytes:
    return orjson.dumps(
        {"id": 1, "client_id": client_id, "site_id": site_id, "url": url, "raw_event_data": {"client_id": "evil"}}
    )


class Known:
    """The clients of these tests."""

    def __init__(self) -> None:
        self.clients: dict[str, Client | UnreadableClient] = {
            "acme": Client(client_id=ClientId("acme")),
            "gone": Client(client_id=ClientId("gone"), is_active=False),
            "keyless": Client(client_id=ClientId("keyless"), privacy_level=PrivacyLevel.GDPR),
            "broken": UnreadableClient(
                client_id=ClientId("broken"), reason="privacy_level", updated_at=datetime(2026, 1, 1, tzinfo=UTC)
            ),
        }

    def client(self, client_id: str) -> Client | UnreadableClient | None:
        return self.clients.get(client_id)

    def owner_of(self, name: str, at: datetime) -> str | None:
        owners = {"site-1": "acme", "acme.example": "acme", "gone.example": "gone"}
        return next((owners[form] for form in names_of(name) if form in owners), None)

    def policy(self, client: Client) -> Policy | None:
        return None if client.client_id == "keyless" else compile_policy(client, pseudonym_keys={})


@pytest.mark.parametrize(
    ("sequence", "position", "verdict"),
    [
        (5, Position(1, 100, 3), Verdict.NEXT),
        (5, Position(2, 1, 0), Verdict.NEXT),
        (4, Position(1, 100, 2), Verdict.REPEAT),
        (1, Position(1, 90, 0), Verdict.REPEAT),
        (6, Position(1, 101, 0), Verdict.HOLE),
        (3, Position(1, 101, 0), Verdict.HOLE),
    ],
)
def test_only_the_next_sequence_is_taken(sequence: int, position: Position, verdict: Verdict) -> None:
    assert judge(START, sequence, position) is verdict


def test_the_first_record_of_a_partition_has_sequence_zero() -> None:
    fresh = ConsumerPosition(next_offset=0, last_sequence=-1, last_position=ZERO)
    assert judge(fresh, 0, Position(1, 0, 0)) is Verdict.NEXT
    assert judge(fresh, 1, Position(1, 0, 0)) is Verdict.HOLE


@pytest.mark.parametrize(
    ("line", "kind", "client"),
    [
        (record("acme"), "client", "acme"),
        (record(None, site_id="site-1"), "client", "acme"),
        (record(None, url="https://www.acme.example:8443/a?b"), "client", "acme"),
        (record("unknown_7", url="https://ACME.example/"), "client", "acme"),
        (record(None, url="https://gone.example/"), "quarantine", ""),
        (record(None), "quarantine", ""),
        (record(None, url="http://[broken"), "quarantine", ""),
        (record("nobody", site_id="site-1"), "quarantine", ""),
        (record("gone"), "quarantine", ""),
        (record("../acme"), "quarantine", ""),
        (record("acme\n"), "quarantine", ""),
        (record("x" * 256), "quarantine", ""),
        (record("broken"), "held", "broken"),
        (record("keyless"), "held", "keyless"),
    ],
)
def test_an_event_goes_to_its_active_client_and_else_nowhere(line: bytes, kind: str, client: str) -> None:
    outcome = decide(line, text_column(line, "client_id"), Position(1, 1, 0), NOW, Known())
    assert (outcome.kind, outcome.client_id) == (kind, client)


def test_what_is_set_aside_keeps_its_bytes() -> None:
    line = record("nobody")
    assert decide(line, "nobody", Position(1, 1, 0), NOW, Known()).line == line


def fill(chunk: Chunk, clients: list[str | None], known: Known) -> None:
    for number, client_id in enumerate(clients):
        line = record(client_id)
        position = Position(1, 200 + number, 0)
        commit_time = NOW + number * HOUR // 4
        outcome = decide(line, client_id, position, commit_time, known)
        chunk.add(outcome, source_client_id(client_id), position, START.last_sequence + 1 + number, commit_time)
        chunk.passed(START.next_offset + number)


@given(st.lists(st.sampled_from(["acme", "gone", "keyless", "broken", "nobody", "../x", None]), min_size=1))
def test_every_event_of_a_chunk_is_counted_once_and_stored_once(clients: list[str | None]) -> None:
    chunk = Chunk(uuid.uuid4(), START, 0.0)
    fill(chunk, clients, Known())
    assert sum(chunk.counts().values()) == len(clients) == sum(len(d.lines) for d in chunk.drafts.values())
    assert chunk.after.next_offset == START.next_offset + len(clients)
    assert chunk.after.last_sequence == START.last_sequence + len(clients)
    for (kind, client_id, hour), draft in chunk.drafts.items():
        assert draft.min_commit_time // HOUR == hour == draft.max_commit_time // HOUR
        assert all(f'"client_id":"{client_id}"'.encode() in line for line in draft.lines) or kind == "quarantine"


def test_an_object_never_mixes_two_policies() -> None:
    known, chunk = Known(), Chunk(uuid.uuid4(), START, 0.0)
    fill(chunk, ["acme"], known)
    before = decide(record("acme"), "acme", Position(1, 300, 0), NOW, known)
    known.clients["acme"] = Client(client_id=ClientId("acme"), ip_collection_enabled=False)
    after = decide(record("acme"), "acme", Position(1, 300, 0), NOW, known)
    assert chunk.fits(before, NOW)
    assert not chunk.fits(after, NOW)
    assert chunk.fits(after, NOW + HOUR)


def test_repeats_are_counted_and_not_stored() -> None:
    chunk = Chunk(uuid.uuid4(), START, 0.0)
    chunk.add_repeat("acme", Position(1, 90, 0), NOW)
    chunk.passed(10)
    assert chunk.counts() == {(hour_of(NOW), "acme", "", "repeat"): 1}
    assert not chunk.drafts
    assert chunk.after == ConsumerPosition(next_offset=11, last_sequence=4, last_position=START.last_position)


def test_keys_are_filed_by_client_and_hour() -> None:
    hour = datetime(2026, 11, 23, 5, tzinfo=UTC)
    assert (
        processed_key("client", "acme", hour, "events.raw", 3, 42, "c")
        == "processed-events/acme/dt=2026-11-23/hr=05/events.raw-3-00000000000000000042-c.ndjson.gz"
    )
    assert processed_key("quarantine", "", hour, "t", 3, 42, "c").startswith("quarantine/dt=2026-11-23/hr=05/t-3-")
    assert processed_key("held", "acme", hour, "t", 3, 42, "c").startswith("held/acme/dt=")
    assert processed_key("dead_letter", "", hour, "t", 3, 42, "c").startswith("dead-letters/dt=")


@given(st.text())
def test_the_ledger_counts_a_source_client_id_without_holding_a_row_value(client_id: str) -> None:
    name = source_client_id(client_id)
    assert name == "!" or (name == client_id and 0 < len(name) <= 255)


def outcome(client_id: str, line: bytes) -> Outcome:
    return Outcome("client", "out", client_id, line, "standard", "v1")


@pytest.mark.parametrize(
    ("clients", "hours", "line_bytes", "cap"),
    [
        (10_000, 1, 10, MAX_DRAFTS),  # many small clients: each object is a PUT
        (3, 10_000, 10, MAX_DRAFTS),  # an hour each, as after a long outage
        (1, 1, 1 << 20, MAX_BYTES >> 20),  # one hot client
        (5, 1, 1, MAX_EVENTS),
    ],
)
def test_a_chunk_is_full_before_it_outgrows_memory(clients: int, hours: int, line_bytes: int, cap: int) -> None:
    chunk = Chunk(uuid.uuid4(), START, 0.0)
    lines = [outcome(f"client-{number}", b"x" * line_bytes) for number in range(clients)]
    taken = 0
    while not chunk.is_full:
        chunk.add(lines[taken % clients], "s", Position(1, 200 + taken, 0), taken, NOW + taken % hours * HOUR)
        taken += 1
    assert taken == cap
