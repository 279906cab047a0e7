"""What the streamer reads from the environment."""

from __future__ import annotations

from pipeline.settings import DatabaseSettings, KafkaSettings, Positive, PositiveSeconds, RawS3Settings


class StreamerSettings(DatabaseSettings, KafkaSettings, RawS3Settings):
    """All variables of the streamer."""

    raw_flush_seconds: PositiveSeconds = 60.0
    raw_max_bytes: Positive = 64 << 20
