"""What retention reads from the environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.settings import DatabaseSettings, Positive, ProcessedS3Settings, RawS3Settings


class RetentionSettings(DatabaseSettings, RawS3Settings, ProcessedS3Settings):
    """All variables of `retention`. Unfiltered data (raw, held, quarantine, dead letters) have a limit by default."""

    kafka_raw_topic: str = "events.raw"

    raw_retention_days: Positive = 30
    """Raw files, counted from their export; never before their rows have left events_log and all is processed."""

    processed_retention_days: Positive = 30
    """Objects that were delivered or replaced. What was not delivered stays, however old."""

    undelivered_retention_days: Positive | None = None
    """Objects that nobody has fetched: of clients without a delivery, say. None: they stay until they are delivered."""

    held_retention_days: Positive = 90
    """Events that wait for a client's settings to be mended."""

    quarantine_retention_days: Positive = 30
    """Events that no active client owns."""

    dead_letter_retention_days: Positive = 30
    """Records that could not be parsed."""

    ledger_retention_days: Positive = 400
    """Rows of the ledger whose objects are gone: a year and what an audit of it takes."""

    orphan_retention_days: Annotated[float, Field(ge=1)] = 7.0
    """Objects that were uploaded and never committed. Longer than any upload or repair takes."""
