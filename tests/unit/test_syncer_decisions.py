"""What becomes of messages, what operators read, which addresses are public, when an hour is complete."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import orjson
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from database.ledger.completeness import Frontier, last_complete_hour
from database.ledger.deliveries import FinishedRun, Run, RunBusyError
from database.ledger.delivery_files import DeliveredFile, ReplacedFile
from pipeline.addresses import is_public
from pipeline.destination import failure_of, refusal
from pipeline.destination.refusals import PERMANENT_WORDS, TRANSIENT_WORDS
from pipeline.errors import FencedError, PermanentError, TransientError
from pipeline.privacy import Policy
from pipeline.s3 import TRANSIENT_CODES
from pipeline.syncqueue import MessageError
from syncer import manifest
from syncer.delivery import NotNowError
from syncer.handling import Fate, decide, delay_seconds
from syncer.policies import Treatment, treatment

HOUR = datetime(2026, 11, 23, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "fate", "outcome"),
    [
        (None, Fate.DELETE, "done"),
        (MessageError("x"), Fate.HIDE, "malformed"),
        (NotNowError("x"), Fate.DELETE, "skipped"),
        (RunBusyError("x"), Fate.HIDE, "busy"),
        (FencedError("x"), Fate.HIDE, "busy"),
        (TransientError("x"), Fate.HIDE, "retry"),
        (PermanentError("x"), Fate.DELETE, "failed"),
        (KeyError("x"), Fate.HIDE, "crashed"),
    ],
)
def test_fate_of_a_message(error: Exception | None, fate: Fate, outcome: str) -> None:
    decision = decide(error, 1, 5, lease_seconds=60)
    assert (decision.fate, decision.outcome) == (fate, outcome)
    assert (decision.seconds > 0) == (fate is Fate.HIDE)


def test_waiting_for_another_owner_never_ends_in_the_dead_letters() -> None:
    assert decide(RunBusyError("x"), 4, 5, lease_seconds=60).fate is Fate.HIDE
    assert decide(RunBusyError("x"), 5, 5, lease_seconds=60).fate is Fate.DELETE
    assert decide(RunBusyError("x"), 50, None, lease_seconds=60).fate is Fate.HIDE


@given(st.integers(0, 10_000))
def test_delays_grow_and_stay_bounded(receives: int) -> None:
    assert 10 <= delay_seconds(receives) <= delay_seconds(receives + 1) <= 900


def test_every_code_has_words_and_a_mend() -> None:
    kinds = dict.fromkeys(PERMANENT_WORDS, PermanentError) | dict.fromkeys(TRANSIENT_WORDS, TransientError)
    assert set(TRANSIENT_WORDS) >= {code for code in TRANSIENT_CODES if not code.isdigit()}
    for code, kind in {**kinds, "SomethingNew": PermanentError}.items():
        refused = kind("x")
        refused.__cause__ = ClientError({"Error": {"Code": code, "Message": "row values"}}, "PutObject")
        told = refusal(refused, "s3://b/k")
        assert isinstance(told, kind)
        told.__cause__ = refused.__cause__
        failure = failure_of(told)
        assert failure.error_class == code
        assert code in failure.error
        assert "(" in failure.error  # the hint
        assert "row values" not in failure.error


def test_text_of_a_foreign_error_is_not_written_down() -> None:
    failure = failure_of(ValueError("203.0.113.9"))
    assert failure.error_class == "ValueError"
    assert "203.0.113.9" not in failure.error


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("nonsense", False),
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("level", "version", "current_level", "current_version", "expected"),
    [
        ("standard", "v1", "standard", "v1", Treatment.COPY),
        ("standard", "v1", "standard", "v2", Treatment.FILTER),
        ("standard", "v1", "hipaa", "v2", Treatment.FILTER),
        ("gdpr", "v1", "hipaa", "v2", Treatment.FILTER),
        ("gdpr", "v1", "gdpr", "v2", Treatment.FILTER),
        ("hipaa", "v1", "gdpr", "v2", Treatment.FILTER),
        ("gdpr", "v1", "standard", "v2", Treatment.KEEP),
        ("gdpr", "v1", "standard without addresses", "v2", Treatment.FILTER),
        ("unheard of", "v1", "standard", "v2", Treatment.FILTER),
    ],
)
def test_filtered_again_only_to_become_tighter(
    level: str, version: str, current_level: str, current_version: str, expected: Treatment
) -> None:
    policy = SimpleNamespace(version=current_version, takes_nothing=current_level == "standard")
    assert treatment(level, version, cast(Policy, policy)) is expected


times = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))


@given(times, st.none() | times, st.none() | times)
def test_complete_hour_ends_before_anything_that_is_missing(
    caught_up: datetime, unprocessed: datetime | None, held: datetime | None
) -> None:
    hour = last_complete_hour(Frontier(caught_up_at=caught_up, first_unprocessed=unprocessed, first_held_hour=held))
    assert hour is not None
    end = hour + timedelta(hours=1)
    bounds = [bound for bound in (caught_up - timedelta(seconds=5), unprocessed, held) if bound]
    assert end <= min(bounds) < end + timedelta(hours=1)


def test_no_hour_is_complete_while_nobody_knows_how_far_the_stream_is() -> None:
    assert last_complete_hour(Frontier(caught_up_at=None, first_unprocessed=None, first_held_hour=None)) is None


def test_manifest_is_deterministic_and_names_the_digest_of_the_one_before() -> None:
    run = Run(
        id=2,
        client_id="c",
        run_key="20261123T0600-hourly",
        owner=UUID(int=1),
        bucket="b",
        prefix="p/",
        started_at=HOUR + timedelta(hours=1, microseconds=7),
        complete_through=HOUR,
        manifest=None,
        manifest_sha256=None,
    )
    file = DeliveredFile(
        bucket="b",
        key="p/events/x",
        hour=HOUR,
        events=3,
        bytes=9,
        sha256="00",
        policy_version="v",
        first_commit_time=HOUR,
        last_commit_time=None,
    )
    before = FinishedRun(
        id=1,
        run_key="20261123T0500-hourly",
        bucket="b",
        prefix="p/",
        manifest="{}",
        manifest_sha256="ab",
        complete_through=None,
    )
    again = ReplacedFile(
        **{name: getattr(file, name) for name in DeliveredFile.__dataclass_fields__} | {"sha256": "11"},
        old_bucket="b",
        old_key="old/events/x",
        old_events=4,
        old_sha256="22",
    )
    text = manifest.render(run, [file, file], [again], before)
    assert text == manifest.render(run, [file, file], [again], before)
    assert manifest.sha256_of(text) == hashlib.sha256(text.encode()).hexdigest()
    document = orjson.loads(text)
    assert document["generated_at"] == "2026-11-23T06:00:00.000007Z"
    assert document["events"] == 6
    assert document["complete_through"] == "2026-11-23T05:00:00Z"
    assert document["previous_manifest"] == {
        "bucket": "b",
        "key": "p/manifests/20261123T0500-hourly.json",
        "sha256": "ab",
    }
    assert [(f["sha256"], f["old_sha256"], f["old_key"]) for f in document["replaced"]] == [
        ("11", "22", "old/events/x")
    ]
    assert orjson.loads(manifest.render(run, [], [], None))["previous_manifest"] is None
