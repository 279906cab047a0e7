from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.traffic_record import Entry, columns_digest, raw_digest
from local.verify_compare import EXAMPLES, Comparison, Expectation, Tally, raw_member
from local.verify_manifest import File, Manifest, ManifestError, files_of, read_manifest
from pipeline.clients import PrivacyLevel

RAW = (
    b'{"b": 1.10, "a": [123456789012345678901234567890, "\xf0\x9f\x9a\x80 \\"raw_event_data\\":"],'
    b' "raw_event_data": {}}'
)
PLANTED = (("ip", "203.0.113.9"), ("email", "ada.lo@example.org"), ("phone", "+1 212-555-0143"), ("card", "4111 1111"))
STANDARD, GDPR, HIPAA, DROPS = "std", "gdp", "hip", "drops"
EXPECTATIONS = (
    Expectation(client_id=STANDARD, level=PrivacyLevel.STANDARD),
    Expectation(client_id=GDPR, level=PrivacyLevel.GDPR),
    Expectation(client_id=HIPAA, level=PrivacyLevel.HIPAA),
    Expectation(client_id=DROPS, level=PrivacyLevel.GDPR, may_drop=True),
)
LEVELS = {item.client_id: item.level for item in EXPECTATIONS}


def columns(number: int, client_id: str | None) -> dict[str, Any]:
    return {
        "id": number,
        "event_id": str(uuid.UUID(int=number)),
        "event_type": "pageview",
        "session_id": "s",
        "visitor_id": None,
        "site_id": "shop.example",
        "timestamp": "2026-11-23T12:00:00.000000Z",
        "url": "https://shop.example/\u2028",
        "path": "/",
        "user_agent": "",
        "ip_address": "203.0.113.9",
        "created_at": "2026-11-23T12:00:00.000001Z",
        "client_id": client_id,
        "batch_id": None,
    }


def entry(number: int, client_id: str | None, consent: str = "granted") -> Entry:
    values = columns(number, client_id)
    return Entry(
        event_id=values["event_id"],
        client_id=client_id,
        owner=client_id,
        consent=consent,
        columns=columns_digest(values),
        raw=raw_digest(RAW),
        planted=PLANTED,
    )


def line(number: int, client_id: str | None, *, raw: bytes = RAW, level: str = "standard", **changed: Any) -> bytes:
    values = {**columns(number, client_id), **changed}
    privacy = orjson.dumps({"level": level, "redacted": []})
    return orjson.dumps(values)[:-1] + b',"raw_event_data":' + raw + b',"privacy":' + privacy + b"}"


def filtered(number: int, client_id: str, **changed: Any) -> bytes:
    return line(number, client_id, raw=b'{"b": 1.10}', level=LEVELS[client_id], **{"ip_address": None, **changed})


@pytest.fixture
def comparison(tmp_path: Path) -> Iterator[Comparison]:
    found = Comparison(tmp_path / "index", EXPECTATIONS)
    owners = {1: STANDARD, 2: STANDARD, 3: GDPR, 4: HIPAA, 5: None}
    found.load([entry(number, owner) for number, owner in owners.items()])
    yield found
    found.close()


def deliver_all(comparison: Comparison) -> None:
    comparison.add(STANDARD, line(1, STANDARD))
    comparison.add(STANDARD, line(2, STANDARD))
    comparison.add(GDPR, filtered(3, GDPR))
    comparison.add(HIPAA, filtered(4, HIPAA))


def faults(tally: Tally) -> dict[str, int]:
    names = ("missing", "twice", "foreign", "unknown", "altered", "wrong_level", "leaks", "broken")
    return {name: getattr(tally, name) for name in names if getattr(tally, name)}


def test_complete_delivery_has_no_fault(comparison: Comparison) -> None:
    deliver_all(comparison)
    result = comparison.result()
    assert all(tally.ok for tally in result.values())
    assert (result[STANDARD].inserted, result[STANDARD].delivered) == (2, 2)


def test_absent_event_is_missing(comparison: Comparison) -> None:
    comparison.add(STANDARD, line(2, STANDARD))
    tally = comparison.result()[STANDARD]
    assert faults(tally) == {"missing": 1}
    assert tally.examples == {"missing": [str(uuid.UUID(int=1))]}


def test_repeated_event_is_twice(comparison: Comparison) -> None:
    deliver_all(comparison)
    comparison.add(GDPR, filtered(3, GDPR))
    assert faults(comparison.result()[GDPR]) == {"twice": 1}


@pytest.mark.parametrize("number", [1, 5])
def test_event_of_another_or_of_nobody_is_foreign(comparison: Comparison, number: int) -> None:
    deliver_all(comparison)
    comparison.add(GDPR, filtered(number, GDPR))
    assert faults(comparison.result()[GDPR]) == {"foreign": 1}


def test_event_that_was_rolled_back_is_unknown(comparison: Comparison) -> None:
    deliver_all(comparison)
    comparison.add(STANDARD, line(99, STANDARD))
    assert faults(comparison.result()[STANDARD]) == {"unknown": 1}


@pytest.mark.parametrize(
    "altered",
    [
        line(1, STANDARD, raw=RAW.replace(b"1.10", b"1.1")),
        line(1, STANDARD, raw=RAW.replace(b": ", b":")),
        line(1, STANDARD, path="/other"),
        line(1, STANDARD, ip_address=None),
        line(1, STANDARD, export_status="pending"),
        line(1, STANDARD).replace(b'"raw_event_data":' + RAW + b",", b""),
    ],
)
def test_changed_original_is_altered(comparison: Comparison, altered: bytes) -> None:
    deliver_all(comparison)
    comparison.add(STANDARD, altered)
    assert faults(comparison.result()[STANDARD]) == {"altered": 1, "twice": 1}


@pytest.mark.parametrize("garbage", [b"", b"null", b"[1]", b"{}", b'{"event_id":7}', b'{"event_id":"x"}', b"\xff"])
def test_line_that_is_no_event_is_altered(comparison: Comparison, garbage: bytes) -> None:
    deliver_all(comparison)
    comparison.add(GDPR, garbage)
    assert faults(comparison.result()[GDPR]) == {"altered": 1}


@pytest.mark.parametrize("client_id", [GDPR, HIPAA])
@pytest.mark.parametrize(("kind", "value"), PLANTED)
def test_planted_value_anywhere_in_a_filtered_line_is_a_leak(
    comparison: Comparison, client_id: str, kind: str, value: str
) -> None:
    number = {GDPR: 3, HIPAA: 4}[client_id]
    comparison.add(client_id, filtered(number, client_id, user_agent=f"x{value}y"))
    assert faults(comparison.result()[client_id]) == {"leaks": 1}


def test_line_without_the_clients_level_is_a_fault(comparison: Comparison) -> None:
    deliver_all(comparison)
    comparison.add(GDPR, line(3, GDPR, raw=b"{}", level="standard", ip_address=None))
    comparison.add(HIPAA, filtered(4, HIPAA).replace(b'"privacy"', b'"private"'))
    assert faults(comparison.result()[GDPR]) == {"twice": 1, "wrong_level": 1}
    assert faults(comparison.result()[HIPAA]) == {"twice": 1, "wrong_level": 1}


def test_event_without_consent_may_be_dropped_only_where_the_client_wants_it(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path / "index", EXPECTATIONS)
    comparison.load([entry(1, DROPS, "refused"), entry(2, DROPS, "granted"), entry(3, GDPR, "refused")])
    result = comparison.result()
    comparison.close()
    assert (result[DROPS].dropped, faults(result[DROPS])) == (1, {"missing": 1})
    assert faults(result[GDPR]) == {"missing": 1}


def test_client_that_nobody_can_read_misses_everything(tmp_path: Path) -> None:
    comparison = Comparison(tmp_path / "index", EXPECTATIONS)
    comparison.load([entry(1, "stranger")])
    assert faults(comparison.result()["stranger"]) == {"missing": 1}
    comparison.close()


def test_standard_client_without_addresses_is_compared_without_them(tmp_path: Path) -> None:
    expectation = Expectation(client_id=STANDARD, level=PrivacyLevel.STANDARD, keeps_ip=False)
    comparison = Comparison(tmp_path / "index", [expectation])
    comparison.load([entry(1, STANDARD)])
    comparison.add(STANDARD, line(1, STANDARD, ip_address=None))
    assert comparison.result()[STANDARD].ok
    comparison.close()


def test_examples_are_few(comparison: Comparison) -> None:
    for number in range(100, 150):
        comparison.add(STANDARD, line(number, STANDARD))
    tally = comparison.result()[STANDARD]
    assert tally.unknown == 50
    assert len(tally.examples["unknown"]) == EXAMPLES


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(['"raw_event_data":7', "plain", '\\"raw_event_data\\":']))
def test_raw_member_is_found_exactly(value: Any, url: str) -> None:
    raw = orjson.dumps(value)
    text = orjson.dumps({"url": url})[:-1] + b',"raw_event_data":' + raw + b',"privacy":{"raw_event_data":1}}'
    assert raw_member(text) == raw


def manifest(run_key: str, files: list[dict[str, Any]], previous: bytes | None = None, **changed: Any) -> bytes:
    link = previous and {
        "key": f"p/manifests/{orjson.loads(previous)['run_key']}.json",
        "sha256": hashlib.sha256(previous).hexdigest(),
    }
    values = {"schema_version": 1, "client_id": "c", "run_key": run_key, "files": files, "replaced": []}
    return orjson.dumps({**values, "previous_manifest": link, **changed})


def described(key: str, sha256: str = "aa") -> dict[str, Any]:
    return {"key": key, "sha256": sha256, "events": 2, "bytes": 30, "hour": "2026-11-23T12:00:00Z"}


def read(body: bytes, sha256: str | None = None) -> Manifest:
    return read_manifest(body, client_id="c", prefix="p/", sha256=sha256)


def replacement(key: str, *, old_key: str, sha256: str = "bb", old_sha256: str = "aa") -> dict[str, Any]:
    return {**described(key, sha256), "events": 1, "old_key": old_key, "old_sha256": old_sha256, "old_events": 2}


def test_files_of_a_chain_with_a_replacement() -> None:
    first = manifest("r1", [described("a"), described("b")])
    second = manifest("r2", [described("c")], first, replaced=[replacement("a", old_key="a")])
    newest = read(second)
    assert newest.previous is not None
    assert newest.previous.key == "p/manifests/r1.json"
    files = files_of([newest, read(first, newest.previous.sha256)])
    assert sorted(files) == ["a", "b", "c"]
    assert files["a"] == File(key="a", sha256="bb", events=1, bytes=30)


def test_file_replaced_after_a_change_of_the_prefix_counts_under_its_new_key_alone() -> None:
    first = read(manifest("r1", [described("old/a"), described("old/b")]))
    second = read(manifest("r2", [], replaced=[replacement("new/a", old_key="old/a")]))
    third = read(manifest("r3", [], replaced=[replacement("new/a", old_key="new/a", sha256="cc", old_sha256="bb")]))
    files = files_of([third, second, first])
    assert {key: file.sha256 for key, file in files.items()} == {"old/b": "aa", "new/a": "cc"}


def test_link_by_run_key_is_followed_too() -> None:
    link = {"run_key": "r0", "sha256": "00"}
    found = read(manifest("r1", [], previous_manifest=link)).previous
    assert found is not None
    assert found.key == "p/manifests/r0.json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        manifest("r1", [], client_id="other"),
        manifest("r1", [], schema_version=2),
        manifest("r1", [{"key": "a"}]),
        manifest("r1", [], replaced=None),
    ],
)
def test_manifest_that_cant_be_trusted_raises_its_own_error(body: bytes) -> None:
    with pytest.raises(ManifestError):
        read(body)


def test_manifest_with_another_digest_is_refused() -> None:
    with pytest.raises(ManifestError, match="sha256"):
        read(manifest("r1", []), "00")


def test_chain_that_contradicts_itself_is_refused() -> None:
    twice = read(manifest("r1", [described("a"), described("a")]))
    with pytest.raises(ManifestError, match="second time"):
        files_of([twice])
    first = read(manifest("r1", [described("a"), described("b")]))
    for item, words in (
        (replacement("x", old_key="x"), "never listed"),
        (replacement("b", old_key="a"), "second time"),
        (replacement("a", old_key="a", old_sha256="cc"), "other content"),
    ):
        with pytest.raises(ManifestError, match=words):
            files_of([read(manifest("r2", [], replaced=[item])), first])
