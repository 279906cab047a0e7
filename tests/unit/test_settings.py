"""The environment: a wrong value is named, its content never shown."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import ClientStoreSettings, Settings
from streamer.settings import StreamerSettings

GOOD = {
    "DATABASE_URL": "postgresql://u:hunter2@h/d",
    "KAFKA_BOOTSTRAP_SERVERS": "h:9092",
    "RAW_S3_BUCKET": "raw",
    "AWS_ENDPOINT_URL": "http://h",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*StreamerSettings.model_fields, *ClientStoreSettings.model_fields]:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_defaults_are_those_of_the_contract() -> None:
    settings = StreamerSettings.load()
    assert (settings.replication_slot, settings.publication) == ("events_pipeline", "events_pipeline")
    assert (settings.kafka_raw_topic, settings.kafka_partitions, settings.kafka_retention_hours) == (
        "events.raw",
        12,
        168,
    )
    assert (settings.raw_flush_seconds, settings.raw_max_bytes) == (60, 67108864)
    assert settings.ledger_dsn == settings.source_dsn
    assert settings.raw_bucket.endpoint_url == "http://h"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", None),
        ("DATABASE_URL", "secret words"),
        ("LEDGER_DATABASE_URL", "secret words"),
        ("KAFKA_BOOTSTRAP_SERVERS", None),
        ("KAFKA_SECURITY_PROTOCOL", "secret"),
        ("KAFKA_PARTITIONS", "-77"),
        ("RAW_S3_BUCKET", ""),
        ("RAW_FLUSH_SECONDS", "soon"),
        ("RAW_MAX_BYTES", "-5"),
        ("REPLICATION_SLOT", "Drop Table"),
        ("PUBLICATION", "it's"),
        ("HEALTH_PORT", "70000"),
        ("LOG_LEVEL", "secret"),
        ("RAW_S3_ACCESS_KEY", "secret"),
        ("RAW_S3_SECRET_KEY", "secret"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        StreamerSettings.load()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not value or value not in str(caught.value)


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("KAFKA_PARTITIONS", "x")
    with pytest.raises(ConfigError, match=r"(?=.*DATABASE_URL is missing)(?=.*KAFKA_PARTITIONS is wrong)"):
        StreamerSettings.load()


def test_secrets_are_masked_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_KEYS", "key-one, key-two")
    monkeypatch.setenv("ADMIN_API_KEY", "key-three")
    settings = ClientStoreSettings.load()
    assert [key.get_secret_value() for key in settings.credentials_keys] == ["key-one", "key-two"]
    assert "key-" not in repr(settings)
    assert "hunter2" not in repr(StreamerSettings.load())
    assert Settings.load().admin_api_key is not None
