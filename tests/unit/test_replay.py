"""What a replay reads, compares and supersedes: decided without a server."""

from __future__ import annotations

import argparse
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.ledger.cells import ChunkSpan, CurrentObject, HourState
from database.ledger.replays import Order
from database.ledger.revisions import Revision
from pipeline import kafka
from pipeline.clients import Client, ClientId, PrivacyLevel
from pipeline.errors import ConfigError
from pipeline.events import Event
from pipeline.keys import HOUR_MICROSECONDS, hour_of
from pipeline.position import Position
from pipeline.privacy import Policy, compile_policy
from pipeline.syncqueue import HoursError
from processor.outcome import dead_letter
from processor.replay.cells import QUARANTINE, Ownership, cells_of
from processor.replay.command import main, order_of
from processor.replay.kafka import KafkaReader, NotThereError
from processor.replay.pace import Pace
from processor.replay.report import Report, refusal_of, summary_of
from processor.replay.rework import Findings, Outturn, Rework, same_object
from processor.replay.shown import Shown
from processor.replay.spans import Partition, Wanted, partitions_of, passes, stretches
from processor.replay.usable import why_unusable
from processor.writer import compress

NOW = 480_000 * HOUR_MICROSECONDS + 7_000_000
HOUR = hour_of(NOW)
A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def record(number: int, client_id: str | None, site_id: str = "") -> bytes:
    return orjson.dumps(
        {"id": number, "event_id": f"e{number}", "client_id": client_id, "site_id": site_id, "url": None,
         "raw_event_data": {"eventData": {"email": "a@b.example"}}}
    )  # fmt: skip


def at(number: int) -> Position:
    return Position(1, 1000 + number, 0)


def span(chunk_id: uuid.UUID, first: int, last: int, partition: int = 0) -> ChunkSpan:
    return ChunkSpan(
        id=chunk_id,
        partition=partition,
        first_offset=first,
        next_offset=last + 1,
        after=at(first - 1),
        until=at(last),
    )


def stored(id_: int, kind: str, client_id: str, events: int, chunk_id: uuid.UUID = A) -> CurrentObject:
    return CurrentObject(
        id=id_,
        chunk_id=chunk_id,
        kind=kind,
        client_id=client_id,
        bucket="b",
        key=f"k{id_}",
        events=events,
        sha256="00",
        privacy_level="standard",
        policy_version="old",
    )


class Clients:
    """Two clients by host, one of them gone."""

    def __init__(self) -> None:
        self.known = {
            "acme": Client(client_id=ClientId("acme"), privacy_level=PrivacyLevel.STANDARD),
            "bolt": Client(client_id=ClientId("bolt"), privacy_level=PrivacyLevel.STANDARD),
            "gone": Client(client_id=ClientId("gone"), is_active=False),
        }
        self.owners = {"acme.example": "acme", "bolt.example": "bolt"}

    def client(self, client_id: str) -> Client | None:
        return self.known.get(client_id)

    def owner_of(self, name: str, at: datetime) -> str | None:
        return self.owners.get(name)

    def policy(self, client: Client) -> Policy | None:
        return compile_policy(client, pseudonym_keys={})


def state(rows: dict[tuple[str, str, str], int], objects: list[CurrentObject] | None = None) -> HourState:
    """One chunk, A, with events 1 to n; rows by (source, client, disposition)."""
    return HourState(
        hour=HOUR,
        chunks={A: span(A, 1, sum(rows.values()))},
        rows={(A, (HOUR, *key)): events for key, events in rows.items()},
        objects=objects or [],
    )


def rework_of(found: HourState, clients: Clients, wanted: set[str] | None, release_to: str | None = None) -> Rework:
    return Rework(
        cells=cells_of(found, wanted),
        spans=found.chunks,
        ownership=Ownership(found),
        policies=clients,
        release_to=release_to,
    )


def test_cells_are_the_clients_and_what_nobody_may_have_back_is_in_none() -> None:
    found = state(
        {("acme", "acme", "out"): 3, ("acme", "acme", "held"): 1, ("", "", "quarantine"): 2,
         ("!", "", "dead_letter"): 1, ("", "", "expired"): 4},
        [stored(1, "client", "acme", 3), stored(2, "held", "acme", 1), stored(3, "quarantine", "", 2)],
    )  # fmt: skip
    assert set(cells_of(found, None)) == {"acme"}
    assert {item.id for item in cells_of(found, None)["acme"].objects} == {1, 2}
    quarantine = cells_of(found, {QUARANTINE})[QUARANTINE]
    assert sum(quarantine.rows.values()) == 2
    assert {item.id for item in quarantine.objects} == {3}


def test_an_event_that_is_missing_or_too_many_is_named_with_its_chunk_and_source() -> None:
    rework = rework_of(state({("acme", "acme", "out"): 3}), Clients(), {"acme"})
    for number in (1, 2):
        rework.take(A, at(number), NOW, record(number, "acme"))
    assert rework.differences(A) == [
        ("acme", f"chunk {A}, source client acme: 3 events by the ledger, 2 found")
    ]  # fmt: skip
    rework.take(A, at(3), NOW, record(3, "acme"))
    assert rework.differences(A) == []
    rework.take(A, at(4), NOW, record(4, "acme"))
    assert rework.differences(A) != []


def test_in_a_shared_group_an_event_is_known_by_the_object_that_it_stands_in_even_if_its_domain_has_moved() -> None:
    found = state(
        {("", "acme", "out"): 1, ("", "bolt", "out"): 1, ("", "acme", "dropped_consent"): 1, ("", "", "quarantine"): 1},
        [stored(1, "client", "acme", 1), stored(2, "client", "bolt", 1), stored(3, "quarantine", "", 1)],
    )
    clients = Clients()
    ownership = Ownership(found)
    assert {item.id for item in ownership.objects_to_ask({"bolt"})} == {2}, "it has dropped nothing"
    assert {item.id for item in ownership.objects_to_ask({"acme"})} == {1, 2, 3}
    moved, theirs, dropped, stranger = (
        record(1, None, "bolt.example"),  # was acme's when it was processed
        record(2, None, "bolt.example"),
        record(3, None, "acme.example"),
        record(4, None, "acme.example"),  # registered since, in quarantine
    )
    for item, line in zip(found.objects, (moved, theirs, stranger), strict=True):
        ownership.know(item, [line])
    rework = Rework(cells=cells_of(found, {"acme"}), spans=found.chunks, ownership=ownership, policies=clients)
    for number, line in enumerate((moved, theirs, dropped, stranger), start=1):
        rework.take(A, at(number), NOW, line)
    assert rework.differences(A) == []
    (chunk,) = rework.close(A).values()
    fates = {(key[2], key[3]): n for key, n in chunk.counts().items()}
    assert fates == {("bolt", "out"): 1, ("acme", "out"): 1}
    assert rework.close(A) == {}


def test_an_object_that_is_lost_does_not_keep_its_events_from_being_found_by_their_attribution() -> None:
    objects = [stored(1, "client", "acme", 1), stored(2, "client", "bolt", 1)]
    found = state({("", "acme", "out"): 1, ("", "bolt", "out"): 1}, objects)
    ownership = Ownership(found)
    assert ownership.objects_to_ask({"acme"}) == objects[:1]
    ownership.begin()
    line = record(1, None, "acme.example")
    assert ownership.of((A, ""), line, "acme") is None
    ownership.cannot_know(found.objects[0])
    assert ownership.objects_to_ask({"acme"}) == objects
    ownership.know(found.objects[1], [record(2, None, "bolt.example")])
    ownership.begin()
    assert ownership.of((A, ""), record(2, None, "bolt.example"), "bolt") == "bolt"
    assert ownership.of((A, ""), line, "acme") == "acme"
    assert ownership.of((A, ""), record(3, None, "acme.example"), "acme") is None, "there is no third"


@given(
    # By event: its client and its disposition as the ledger has them, and whose it would be today.
    st.lists(
        st.tuples(
            st.sampled_from(["acme", "bolt", "cork"]),
            st.sampled_from(["out", "dropped_consent", "held", "dead_letter"]),
            st.sampled_from(["acme", "bolt", "cork", "late", QUARANTINE]),
        ),
        max_size=20,
    ),
    st.sets(st.sampled_from(["acme", "bolt", "cork"]), min_size=1),
)
def test_however_domains_have_moved_every_cell_gets_as_many_events_as_it_has_and_its_own_where_that_is_known(
    events: list[tuple[str, str, str]], replayed: set[str]
) -> None:
    kinds = {"out": "client", "held": "held", "dead_letter": "dead_letter"}
    rows = Counter(("", client_id, fate) for client_id, fate, _ in events)
    objects = [
        stored(number, kinds[fate], client_id, count)
        for number, ((_, client_id, fate), count) in enumerate(rows.items())
        if fate in kinds
    ]
    ownership = Ownership(state(dict(rows), objects))
    for item in ownership.objects_to_ask(replayed):
        lines = [
            record(n, None)
            for n, (client_id, fate, _) in enumerate(events)
            if (client_id, kinds.get(fate)) == (item.client_id, item.kind)
        ]
        letters = [dead_letter(line, "here", "why") for line in lines]
        ownership.know(item, letters if item.kind == "dead_letter" else lines)
    ownership.begin()
    found = [ownership.of((A, ""), record(n, None), today) for n, (_, _, today) in enumerate(events)]
    for client_id in replayed:
        assert found.count(client_id) == sum(owner == client_id for owner, _, _ in events)
    for cell, (client_id, fate, _) in zip(found, events, strict=True):
        if fate != "dropped_consent":
            assert (cell == client_id) or not {cell, client_id} & replayed


def test_what_expired_is_not_taken_for_what_was_dropped() -> None:
    found = state({("", "acme", "dropped_consent"): 1, ("", "", "expired"): 1})
    rework = rework_of(found, Clients(), {"acme"})
    for number in (1, 2):
        rework.take(A, at(number), NOW, record(number, None, "acme.example"))
    assert rework.differences(A) != []


def test_of_the_quarantine_only_the_named_client_s_events_are_released_and_the_rest_stays_byte_by_byte() -> None:
    found = state({("", "", "quarantine"): 3})
    rework = rework_of(found, Clients(), {QUARANTINE}, release_to="acme")
    lines = [record(1, None, "acme.example"), record(2, None, "bolt.example"), record(3, None, "nobody.example")]
    for number, line in enumerate(lines, start=1):
        rework.take(A, at(number), NOW, line)
    (chunk,) = rework.close(A).values()
    drafts = {(draft.kind, draft.client_id): draft.lines for draft in chunk.drafts.values()}
    assert set(drafts) == {("client", "acme"), ("quarantine", "")}
    assert drafts["quarantine", ""] == lines[1:]


def test_what_comes_out_the_same_is_neither_superseded_nor_counted_anew() -> None:
    found = state({("acme", "acme", "out"): 2}, [stored(1, "client", "acme", 2)])
    rework = rework_of(found, Clients(), {"acme"})
    for number in (1, 2):
        rework.take(A, at(number), NOW, record(number, "acme"))
    (chunk,) = rework.close(A).values()
    (draft,) = chunk.drafts.values()
    outturn = Outturn(cells_of(found, {"acme"})["acme"])
    outturn.add_counts(chunk)
    assert (outturn.removed, outturn.added, outturn.superseded) == ({}, {}, [1])
    sha256 = compress(draft.lines)[1].hex()
    now = replace(found.objects[0], sha256=sha256, policy_version=draft.policy_version)
    assert same_object(draft, sha256, A, [now]) is now
    assert same_object(draft, sha256, A, found.objects) is None, "another policy"
    assert same_object(draft, sha256, A, [now, replace(now, id=2)]) is None
    assert same_object(draft, sha256, B, [now]) is None
    outturn.kept.add(1)
    assert not outturn.is_changed


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 200))
def test_each_position_of_a_partition_is_in_the_one_chunk_that_took_it(sizes: list[int], probe: int) -> None:
    spans, start = [], 1
    for size in sizes:
        spans.append(span(uuid.uuid4(), start, start + size - 1))
        start += size
    partition = Partition(reversed(spans))
    expected = next((s.id for s in spans if s.after < at(probe) <= s.until), None)
    found = partition.span_at(at(probe))
    assert (found and found.id) == expected
    assert partition.closed_by(at(probe), at(0)) == [s.id for s in spans if s.until <= at(probe)]


def test_neighbouring_chunks_are_read_in_one_go_and_those_that_kafka_never_had_not_at_all() -> None:
    refilled = replace(span(uuid.uuid4(), 10, 12), first_offset=10, next_offset=10)
    parts = list(stretches(Partition([span(A, 1, 4), span(B, 5, 9), refilled, span(uuid.uuid4(), 20, 22)])))
    assert [(part.start, part.stop, len(part.spans)) for part in parts] == [(1, 10, 2), (20, 23, 1)]


def test_raw_files_are_read_in_as_many_passes_as_the_open_chunks_need_memory() -> None:
    spans = [span(uuid.UUID(int=n), 1, 9, partition=n) for n in range(4)]
    events = {spans[0].id: 60, spans[1].id: 40, spans[2].id: 90, spans[3].id: 5}
    found = passes(partitions_of(spans), events, 100)
    assert [sorted(each) for each in found] == [[0, 1], [2, 3]]
    assert [sorted(each) for each in passes(partitions_of(spans), events, 1)] == [[0], [1], [2], [3]]


class Broker:
    """As much of a consumer as the reader needs, over one partition's records."""

    def __init__(self, records: list[Any], begin: int = 0) -> None:
        self.records, self.begin, self.place = records, begin, 0

    async def beginning_offsets(self, parts: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(parts, self.begin)

    async def end_offsets(self, parts: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(parts, len(self.records))

    def assign(self, parts: list[Any]) -> None:
        pass

    def seek(self, _: Any, offset: int) -> None:
        self.place = offset

    async def getmany(self, tp: Any, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        polled = self.records[self.place : self.place + 3]
        self.place += len(polled)
        return {tp: polled}


def kafka_record(
    offset: int, number: int, *, value: bytes | None = b"line", time: int = NOW, fence: bool = False
) -> Any:
    headers = kafka.headers(Event(at(number), time, None, None, b""), number)
    return SimpleNamespace(topic="t", partition=0, offset=offset, value=value,
                           headers=[*headers, ("fence", b"")] if fence else headers)  # fmt: skip


def reader(broker: Broker) -> KafkaReader:
    class Raw:
        async def line_at(self, position: Position) -> bytes | None:
            return b"from its raw file" if position == at(5) else None

    settings: Any = SimpleNamespace(kafka_raw_topic="t")
    raw: Any = Raw()
    made = KafkaReader(settings, raw, Pace(1e9))
    made._opened = broker
    return made


async def read(from_: KafkaReader, spans: list[ChunkSpan]) -> tuple[list[tuple[Any, ...]], list[uuid.UUID]]:
    wanted = Wanted(hour=NOW // HOUR_MICROSECONDS, spans=spans, sources={"acme"}, events={})
    batches: AsyncIterator[Any] = from_.read(wanted)
    events, closed = [], []
    async for batch in batches:
        events += batch.events
        closed += batch.closed
    return events, closed


async def test_kafka_gives_each_event_once_without_repeats_fences_other_hours_and_with_those_too_large_for_it() -> None:
    records = [
        kafka_record(0, 0),  # of the chunk before
        kafka_record(1, 1),
        kafka_record(2, 2),
        kafka_record(3, 2),  # sent twice
        kafka_record(4, 3, value=None, fence=True),
        kafka_record(5, 3),
        kafka_record(6, 4, time=NOW + HOUR_MICROSECONDS),
        kafka_record(7, 5, value=None),  # too large
        kafka_record(8, 6, value=None),  # points to nothing
        kafka_record(9, 7),
        kafka_record(10, 8),  # of the chunk behind
    ]
    first = replace(span(A, 1, 3), first_offset=1, next_offset=6)
    second = replace(span(B, 4, 7), first_offset=6, next_offset=10)
    events, closed = await read(reader(Broker(records)), [second, first])
    assert [(chunk, position) for chunk, position, *_ in events] == [
        (A, at(1)), (A, at(2)), (A, at(3)), (B, at(5)), (B, at(7))
    ]  # fmt: skip
    assert events[3][3] == b"from its raw file"
    assert closed == [A, B]


async def test_what_kafka_has_forgotten_is_not_looked_for_there() -> None:
    with pytest.raises(NotThereError, match="--source raw"):
        await read(reader(Broker([kafka_record(n, n) for n in range(9)], begin=2)), [span(A, 1, 3)])
    with pytest.raises(NotThereError):
        await read(reader(Broker([])), [span(A, 1, 3)])


def test_a_replay_rests_as_long_as_its_pace_demands_and_saves_up_no_burst() -> None:
    now = 100.0
    pace = Pace(1000, clock=lambda: now)
    assert pace.rest_seconds(500) == pytest.approx(0.5)
    now = 100.5
    assert pace.rest_seconds(500) == pytest.approx(0.5)
    now = 200.0
    assert pace.rest_seconds(2500) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("client_id", "words"), [("acme", None), ("nobody", "no such client"), ("gone", "not active")]
)  # fmt: skip
def test_only_a_client_that_may_get_events_is_replayed(client_id: str, words: str | None) -> None:
    reason = why_unusable(Clients(), client_id)
    assert (reason is None) if words is None else (reason is not None and words in reason)


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **({"since": "2026-11-23T05", "until": "2026-11-23T07", "client": None, "source": "auto", "quarantine": False,
            "dry_run": False} | given)
    )  # fmt: skip


MORNING = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


def test_hours_are_both_included_and_the_one_under_way_may_be_named_by_its_end() -> None:
    order = order_of(options(), MORNING)
    assert (order.first_hour.hour, order.last_hour.hour) == (5, 7)
    assert order_of(options(until="2026-11-23T08"), MORNING).last_hour.hour == 8


@pytest.mark.parametrize(
    "given",
    [
        {"since": "2026-11-23T05:30"},
        {"since": "2026-11-23T08", "until": "2026-11-23T07"},
        {"until": "2026-11-23T10"},
        {"since": None},
        {"until": None},
        {"since": "yesterday"},
        {"client": "../etc"},
    ],
)
def test_an_order_that_can_not_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises((HoursError, ConfigError)):
        order_of(options(**given), MORNING)


def test_wrong_options_are_exit_status_2_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--since", "2026-11-23T05:30", "--until", "2026-11-23T06"], ["--source", "paper"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "error:" in capsys.readouterr().err


def test_a_revision_neither_adds_nor_loses_events() -> None:
    key = (A, (HOUR, "acme", "acme", "out"))
    dropped = (A, (HOUR, "acme", "acme", "dropped_consent"))
    values: Any = {"id": 1, "cause": "replay", "client_id": "acme", "hour": HOUR, "superseded": [], "objects": []}
    Revision(**values, removed={key: 3}, added={key: 1, dropped: 2})
    for added in ({key: 2}, {key: 4}, {(B, key[1]): 3}, {(A, (HOUR + timedelta(hours=1), *key[1][1:])): 3}):
        with pytest.raises(ValueError, match="neither add nor lose"):
            Revision(**values, removed={key: 3}, added=added)


def test_the_summary_counts_cells_and_names_refusals_but_never_a_value() -> None:
    found = state({("acme", "acme", "out"): 2}, [stored(1, "client", "acme", 2)])
    rework = rework_of(found, Clients(), {"acme"})
    for number in (1, 2):
        rework.take(A, at(number), NOW, record(number, "acme"))
    cell = cells_of(found, {"acme"})["acme"]
    outturn = Outturn(cell, new_objects=1)
    for level, shown in (("gdpr", outturn.shown_before), ("standard", outturn.shown_after)):
        client = Client(client_id=ClientId("acme"), privacy_level=PrivacyLevel(level), lawful_basis="contract")
        policy = compile_policy(client, pseudonym_keys={1: b"k" * 32})
        filtered = [policy.apply(record(number, "acme")).line for number in (1, 2)]
        shown.add([line for line in filtered if line is not None])
    report = Report(Order(client_id="acme", first_hour=HOUR, last_hour=HOUR))
    report.add(summary_of(outturn, rework.findings["acme"], "kafka", 1))
    report.add(refusal_of(cell, ["2 events by the ledger, 1 found"]))
    report.add(summary_of(Outturn(cell, counts=dict(cell.rows), kept={1}), Findings(), "kafka", 0))
    told = report.to_json()
    assert told["cells"] == {"changed": 1, "unchanged": 1, "skipped": 0, "refused": 1}
    assert report.refusals == [f"acme, hour {HOUR:%Y-%m-%dT%H}: 2 events by the ledger, 1 found"]
    assert told["redactions"] == {"email": {"before": 2, "after": 0}}
    assert told["by_cell"][0]["paths"] == {"raw_event_data.eventData.email": {"before": 2, "after": 0}}
    assert b"b.example" not in orjson.dumps(told)


@pytest.mark.parametrize("level", ["standard", "gdpr", "hipaa"])
def test_what_a_line_shows_is_what_the_engine_has_counted_whatever_the_record_holds(level: str) -> None:
    policy = compile_policy(
        Client(
            client_id=ClientId("acme"), privacy_level=PrivacyLevel(level), ip_collection_enabled=level != "standard"
        ),
        pseudonym_keys={1: b"k" * 32},
    )
    line = (
        b'{"id":1,"event_id":"e","session_id":"s","visitor_id":"v","user_agent":"Mozilla/5.0","ip_address":"192.0.2.7",'
        b'"raw_event_data":{"huge":1e400,"gclid":"x1","user_id":"u7","eventData":{"email":"a@b.example","phone":'
        b'"+49 30 1234567"},"events":[{"sessionId":"s","eventData":{"email":"a@b.example"}},{"eventData":{"email":'
        b'"c@b.example"}}]},"client_id":"acme"}'
    )
    out = policy.apply(line)
    assert out.line is not None
    shown = Shown()
    shown.add([out.line, out.line])
    assert shown.rules == Counter(out.kinds * 2)
    if level != "standard":
        assert shown.paths["raw_event_data.events[].eventData.email"] == 2
        assert shown.rules["email"] == 6
