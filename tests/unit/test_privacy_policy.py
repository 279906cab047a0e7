"""What a policy promises about single members of a record: addresses, agents, identifiers, consent, the envelope."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from pipeline.clients import Client, ClientId, ConsentMode, PrivacyLevel
from pipeline.errors import PoisonError
from pipeline.privacy import Filtered, Policy, PolicyError, UnparsableRecord, compile_policy

KEYS = {1: b"a" * 32, 2: b"b" * 32}
CONSENT = {"analytics": True, "marketing": True}


def policy(level: str = "gdpr", keys: dict[int, bytes] | None = None, **settings: Any) -> Policy:
    client = Client(client_id=ClientId("client_1"), privacy_level=PrivacyLevel(level), **settings)
    return compile_policy(client, pseudonym_keys=KEYS if keys is None else keys)


def line(raw: dict[str, Any] | None = None, **columns: Any) -> bytes:
    record = {"id": 1, "session_id": "s-1", "visitor_id": "v-1", "ip_address": "203.0.113.9", **columns}
    return json.dumps({**record, "raw_event_data": raw or {}}).encode()


def read(filtered: Filtered) -> dict[str, Any]:
    assert filtered.line is not None
    document: dict[str, Any] = json.loads(filtered.line)
    return document


@pytest.mark.parametrize("level", ["gdpr", "hipaa"])
@pytest.mark.parametrize("keys", [{}, {1: b""}])
def test_a_level_that_needs_a_key_is_no_policy_without_one(level: str, keys: dict[int, bytes]) -> None:
    with pytest.raises(PolicyError):
        policy(level, keys=keys)


def test_standard_needs_no_key() -> None:
    assert policy("standard", keys={}).level is PrivacyLevel.STANDARD


def test_an_unreadable_record_is_a_dead_letter_and_its_reason_holds_no_value() -> None:
    with pytest.raises(UnparsableRecord) as raised:
        policy().apply(b'{"email": "jane@example.com", }')
    assert isinstance(raised.value, PoisonError)
    assert "jane" not in str(raised.value)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":1',
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":"\\q"}',
        b'{"a":"\xff"}',
        b'{"a":[1}]',
        b'{"a":1}{"b":2}',
        b'{"a":nul}',
        b'{"a":"\t"}',
        b'{"a":1}\n',
        b'{"a":+1}',
        b"{1:2}",
        b'{"a":[,1]}',
    ],
)
def test_what_is_no_json_object_in_one_line_is_refused_where_it_must_be_read(damaged: bytes) -> None:
    for level in ("gdpr", "hipaa"):
        with pytest.raises(UnparsableRecord):
            policy(level).apply(damaged)


def test_gdpr_hashes_the_address_under_the_newest_key() -> None:
    out = read(policy().apply(line()))
    assert out["ip_address"] is None
    assert out["ip_hash"] == hmac.new(KEYS[2], b"203.0.113.9", hashlib.sha256).hexdigest()
    assert out["ip_hash_key_version"] == 2
    assert "ip_address" in out["privacy"]["redacted"]


def test_gdpr_has_no_hash_when_addresses_are_not_collected() -> None:
    out = read(policy(ip_collection_enabled=False).apply(line()))
    assert (out["ip_address"], out["ip_hash"], out["ip_hash_key_version"]) == (None, None, None)


def test_hipaa_has_no_hash_and_takes_it_out_of_what_gdpr_wrote() -> None:
    once = policy().apply(line()).line
    assert once is not None
    for given in (line(), once):
        out = read(policy("hipaa").apply(given))
        assert out["ip_address"] is None
        assert "ip_hash" not in out
        assert "ip_hash_key_version" not in out


def test_standard_without_addresses_takes_a_hash_out_at_once() -> None:
    without = policy("standard", ip_collection_enabled=False)
    once = without.apply(b'{"a":1,"ip_hash":"x"}').line
    assert once is not None
    assert b"ip_hash" not in once
    assert without.apply(once).line == once


def test_a_source_column_can_not_pose_as_our_hash() -> None:
    out = read(policy().apply(line(ip_hash="jane", ip_hash_key_version=7)))
    assert out["ip_hash"] != "jane"


def test_standard_without_address_collection_nulls_the_column_only() -> None:
    given = line({"x": '"ip_address":"198.51.100.1"'})
    out = policy("standard", keys={}, ip_collection_enabled=False).apply(given)
    assert out.line is not None
    assert out.line.startswith(given.replace(b'"203.0.113.9"', b"null")[:-1])
    assert dict(out.redactions) == {"ip": 1}


def test_consent_keeps_identifiers_and_its_absence_nulls_session_and_visitor() -> None:
    raw = {"sessionId": "s-1", "attribution": {"gclid": "g-1"}}
    kept = read(policy().apply(line({**raw, "consent": CONSENT})))
    assert (kept["session_id"], kept["visitor_id"]) == ("s-1", "v-1")
    assert kept["raw_event_data"]["attribution"]["gclid"] == "g-1"
    refused = read(policy().apply(line(raw)))
    assert (refused["session_id"], refused["visitor_id"]) == (None, None)
    assert refused["raw_event_data"]["sessionId"] is None
    assert refused["raw_event_data"]["attribution"]["gclid"] == "[REDACTED:click_id]"
    assert refused["privacy"]["consent"]["status"] == "absent"


@pytest.mark.parametrize(
    ("settings", "raw", "status"),
    [
        ({}, {"consent": CONSENT}, "granted"),
        ({}, {"consent": {"analytics": "granted"}}, "granted"),
        ({}, {"consent": {"analytics_storage": "denied"}}, "refused"),
        ({}, {"consent": True}, "granted"),
        ({}, {"consent": "no"}, "refused"),
        ({}, {"consent": {}}, "absent"),
        ({}, {"consent": None}, "absent"),
        ({}, {}, "absent"),
        ({}, {"consent": CONSENT, "gpc": True}, "refused"),
        ({}, {"consent": CONSENT, "gpc": "1"}, "refused"),
        ({}, {"consent": CONSENT, "dnt": True}, "granted"),
        ({"dnt_is_refusal": True}, {"consent": CONSENT, "dnt": True}, "refused"),
        ({"consent_required": False}, {}, "not_required"),
        ({"lawful_basis": "contract"}, {}, "not_required"),
        ({"lawful_basis": "contract"}, {"gpc": True}, "not_required"),
        ({"lawful_basis": "legitimate interests"}, {"gpc": True}, "refused"),
        ({"lawful_basis": "consent"}, {}, "absent"),
    ],
)
def test_consent_is_decided_by_settings_and_signals(settings: dict[str, Any], raw: dict[str, Any], status: str) -> None:
    for level in ("standard", "gdpr", "hipaa"):
        assert read(policy(level, **settings).apply(line(raw)))["privacy"]["consent"]["status"] == status


def test_contradicting_answers_are_a_refusal() -> None:
    given = b'{"session_id":"s-1","raw_event_data":{"consent":{"analytics":false},"consent":{"analytics":true}}}'
    assert read(policy().apply(given))["session_id"] is None


def test_drop_mode_drops_without_consent_and_counts_it() -> None:
    dropping = policy(consent_mode=ConsentMode.DROP)
    assert dropping.apply(line()).line is None
    assert dict(dropping.apply(line()).redactions) == {"consent": 1}
    assert dropping.apply(line({"consent": CONSENT})).line is not None


def test_hipaa_pseudonyms_join_column_and_payload_and_are_never_hashed_again() -> None:
    out = policy("hipaa").apply(line({"sessionId": "s-1"}))
    once = read(out)
    assert once["session_id"] == once["raw_event_data"]["sessionId"]
    assert once["session_id"].startswith("p2:")
    assert "s-1" not in str(out.line)
    again = read(policy("hipaa").apply(out.line or b""))
    assert again["session_id"] == once["session_id"]


def test_a_pseudonym_of_an_older_key_stays_after_rotation() -> None:
    old = read(policy("hipaa", keys={1: KEYS[1]}).apply(line()))["session_id"]
    assert read(policy("hipaa").apply(line(session_id=old)))["session_id"] == old


def test_a_forged_pseudonym_is_hashed_like_any_other_value() -> None:
    forged = "p2:" + "0" * 48
    assert read(policy("hipaa").apply(line(session_id=forged)))["session_id"] != forged


def test_policy_version_follows_settings_and_key_versions_but_never_keys() -> None:
    base = policy().version
    assert policy(keys={1: b"x" * 32, 2: b"y" * 32}).version == base
    others = [
        policy(keys={1: KEYS[1]}),
        policy("hipaa"),
        policy(dnt_is_refusal=True),
        policy(consent_mode=ConsentMode.DROP),
        policy(ip_collection_enabled=False),
        policy(lawful_basis="contract"),
    ]
    assert len({base, *(other.version for other in others)}) == len(others) + 1
    assert policy(name="another", owner="someone").version == base


def test_a_privacy_member_of_the_input_is_dropped_at_every_level() -> None:
    for level in ("standard", "gdpr", "hipaa"):
        given = b'{"privacy":{"redacted":["jane@example.com"],"level":"none"},"id":1,"raw_event_data":{}}'
        out = policy(level).apply(given).line
        assert out is not None
        assert out.count(b'"privacy"') == 1
        assert b"jane" not in out
        escaped = policy(level).apply(b'{"\\u0070rivacy":1,"id":1}').line
        assert escaped is not None
        assert b"0070" not in escaped


def test_a_privacy_member_further_down_is_data() -> None:
    out = read(policy().apply(line({"eventData": {"privacy": "link"}})))
    assert out["raw_event_data"]["eventData"]["privacy"] == "link"


def test_paths_name_members_arrays_and_personal_names_by_index() -> None:
    out = read(policy().apply(line({"events": [{"eventData": {"email": "x"}}], "a": {"b": 1, "j@example.com": 2}})))
    assert {"raw_event_data.events[0].eventData.email", "raw_event_data.a.[1]"} <= set(out["privacy"]["redacted"])


def test_more_paths_than_the_list_takes_are_counted() -> None:
    out = read(policy().apply(line({"emails": [f"a{n}" for n in range(500)]})))
    assert len(out["privacy"]["redacted"]) == 100
    assert out["privacy"]["redacted_more"] == 500 + 3 - 100


def test_what_a_looser_level_removed_stays_listed_at_the_stricter_one() -> None:
    once = policy().apply(line({"eventData": {"email": "x"}})).line
    assert once is not None
    listed = set(read(policy("hipaa").apply(once))["privacy"]["redacted"])
    assert {"ip_address", "session_id", "raw_event_data.eventData.email"} <= listed


@pytest.mark.parametrize(
    ("agent", "reduced"),
    [
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            ("Safari", "17", "iOS", "mobile"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
            "Mobile Safari/537.36",
            ("Chrome", "126", "Android", "mobile"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
            "Safari/537.36 Edg/126.0.0.0",
            ("Edge", "126", "Windows", "desktop"),
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
            ("Firefox", "127", "Linux", "desktop"),
        ),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", ("other", "", "other", "bot")),
        ("jane@example.com", ("other", "", "other", "other")),
    ],
)
def test_a_user_agent_is_reduced_to_four_answers_from_closed_lists(agent: str, reduced: tuple[str, ...]) -> None:
    out = read(policy().apply(line({"browser": {"userAgent": agent}}, user_agent=agent)))
    expected = dict(zip(("family", "major", "os", "device"), reduced, strict=True))
    assert out["user_agent"] == expected
    assert out["raw_event_data"]["browser"]["userAgent"] == expected


def test_an_object_that_poses_as_a_reduced_agent_is_redacted() -> None:
    out = read(policy().apply(line({"userAgent": {"family": "Jane Doe", "os": "Windows"}})))
    assert out["raw_event_data"]["userAgent"] == {"family": "[REDACTED:user_agent]", "os": "Windows"}


def test_redactions_count_kinds() -> None:
    out = policy().apply(line({"eventData": {"email": "x", "text": "call +1 202 555 0143"}, "consent": CONSENT}))
    assert dict(out.redactions) == {"ip": 1, "email": 1, "phone": 1}


def test_a_value_that_was_clean_with_consent_is_not_kept_for_the_next_without() -> None:
    one = policy()
    url = "https://example.com/?gclid=g-123"
    assert b"g-123" in (one.apply(line({"url": url, "consent": CONSENT})).line or b"")
    assert b"g-123" not in (one.apply(line({"url": url})).line or b"")


@pytest.mark.parametrize("timestamp", ["1700000000123", '"2026-11-23T06:05:00Z"', '"1700000000"'])
@pytest.mark.parametrize("level", ["gdpr", "hipaa"])
def test_the_time_of_the_event_stays_whatever_its_form(level: str, timestamp: str) -> None:
    given = f'{{"raw_event_data":{{"timestamp":{timestamp}}}}}'.encode()
    assert (policy(level).apply(given).line or b"").startswith(given[:-1])


@pytest.mark.parametrize("level", ["gdpr", "hipaa"])
@pytest.mark.parametrize("column", ["id", "event_id", "batch_id", "client_id", "timestamp", "created_at"])
def test_a_column_of_the_envelope_that_carries_personal_data_is_filtered(level: str, column: str) -> None:
    for text in ("jane@example.com", "4111 1111 1111 1111", "call +49 171 1234567"):
        out = read(policy(level).apply(line({}, **{column: text})))
        assert text not in json.dumps(out)
        assert column in out["privacy"]["redacted"]


@pytest.mark.parametrize("level", ["gdpr", "hipaa"])
@pytest.mark.parametrize("stamp", ["8f14e45f-ceea-467f-a9d6-1c2e3f4a5b6c", "2026-11-23 10:00:00+00", "infinity"])
def test_a_column_of_the_envelope_that_is_what_it_says_stays(level: str, stamp: str) -> None:
    columns = dict.fromkeys(("event_id", "batch_id", "timestamp", "created_at"), stamp)
    out = read(policy(level).apply(line({}, **columns)))
    assert {column: out[column] for column in columns} == columns


def test_a_time_that_is_none_is_examined_like_any_text() -> None:
    assert b"jane" not in (policy().apply(line({"timestamp": "jane@example.com"})).line or b"")


def test_a_signal_that_is_none_is_examined_like_any_text() -> None:
    assert b"jane" not in (policy().apply(line({"gpc": "jane@example.com"})).line or b"")


def test_a_value_examined_too_deep_down_is_found_when_it_stands_higher() -> None:
    one = policy()
    value = "203[.]0[.]113[.]9"
    deep = value
    for _ in range(8):
        deep = json.dumps({"x": deep})
    one.apply(line({"x": deep}))
    assert b"113" not in (one.apply(line({"x": value})).line or b"")


def test_two_clients_share_plans_but_no_answers() -> None:
    nested = {"payload": json.dumps({"sessionId": "s-1"})}
    first = policy("hipaa", keys={1: KEYS[1]}).apply(line(nested)).line or b""
    second = policy("hipaa", keys={1: KEYS[2]}).apply(line(nested)).line or b""
    own = [json.loads(json.loads(out)["raw_event_data"]["payload"])["sessionId"] for out in (first, second)]
    assert own[0] != own[1]
    assert own[0] == read(policy("hipaa", keys={1: KEYS[1]}).apply(line()))["session_id"]


def test_numbers_below_a_personal_name_go_and_others_stay() -> None:
    out = read(
        policy().apply(line({"phones": [493012345678], "x": {"orderId": 44051401359, "pesel": 1, "n": 44051401359}}))
    )
    raw = out["raw_event_data"]
    assert raw["phones"] == ["[REDACTED:phone]"]
    assert raw["x"] == {"orderId": 44051401359, "pesel": "[REDACTED:national_id]", "n": "[REDACTED:national_id]"}


def test_a_looser_level_is_applied_to_what_a_stricter_one_left() -> None:
    refusal = line({"consent": {"analytics": False, "marketing": False}})
    hipaa = policy("hipaa", lawful_basis="contract").apply(refusal).line
    assert hipaa is not None
    assert policy("gdpr", consent_mode=ConsentMode.DROP).apply(hipaa).line is None
    stripped = policy("gdpr").apply(hipaa).line
    assert stripped is not None
    assert json.loads(stripped)["session_id"] is None
    hashed = policy("gdpr", lawful_basis="contract").apply(refusal).line
    assert hashed is not None
    assert json.loads(hashed)["ip_hash"]
    without = policy("standard", ip_collection_enabled=False)
    left = without.apply(hashed).line
    assert left is not None
    assert "ip_hash" not in json.loads(left)
    assert without.apply(left).line == left
    assert not without.takes_nothing
    assert policy("standard").takes_nothing
    assert not policy("gdpr").takes_nothing
