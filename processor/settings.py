"""What the processor reads from the environment."""

from __future__ import annotations

from pydantic import SecretStr

from pipeline.settings import (
    ClientStoreSettings,
    DatabaseSettings,
    KafkaSettings,
    Positive,
    PositiveSeconds,
    ProcessedS3Settings,
    RawS3Settings,
)


class ProcessorSettings(DatabaseSettings, KafkaSettings, RawS3Settings, ProcessedS3Settings, ClientStoreSettings):
    """All variables of the processor."""

    database_url: SecretStr
    processed_flush_seconds: PositiveSeconds = 300.0
    replay_events_per_second: Positive = 20_000
    """What a replay reads. Brokers, buckets and ledger are the live processors' too, who keep their pace."""
