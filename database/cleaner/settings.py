"""What the cleaner reads from the environment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import DatabaseSettings, Positive, PositiveSeconds, RawS3Settings


class CleanerSettings(DatabaseSettings, RawS3Settings):
    """All variables of the cleaner."""

    kafka_raw_topic: str = "events.raw"

    cleanup_delay_seconds: Annotated[float, Field(ge=0)] = 3600.0
    """From stamp to deletion, by the ledger's clock: the time in which a person can still stop it."""

    cleanup_batch_rows: Annotated[int, Field(gt=0, le=50_000)] = 1000
    """Rows of one transaction: few enough that no lock is held for long."""

    cleanup_retry_seconds: PositiveSeconds = 600.0
    """When an object that was refused is looked at again: somebody may have restored it."""

    cleanup_dry_run: bool = False
    """Read and compare, write nothing: neither stamps nor deletes, nor the ledger."""

    cleanup_mark_processed: bool | Literal["auto"] = "auto"
    """Set processed_at in the transaction that deletes the row; `auto`: when somebody is there to see it.

    A trigger, a rule, a publication of updates or deletes, another plugin's slot: to everybody else the two are one.
    With wal_level=logical it writes the whole row to WAL once more; without it a clean-up costs half.
    """

    cleanup_by_partition: bool = False
    """Where events_log is partitioned: drop whole days once they are over and verified, in place of rows one by one.

    Rows stay for up to a day longer, and are neither stamped nor marked; the source pays for their insertion alone.
    """

    cleanup_partition_days: Positive = 7
    """For how many days ahead partitions are made, where events_log is partitioned."""
