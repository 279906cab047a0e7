"""The syncer's environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.settings import (
    ClientStoreSettings,
    DatabaseSettings,
    DestinationSettings,
    Positive,
    PositiveSeconds,
    ProcessedS3Settings,
    SyncQueueSettings,
)


class SyncerSettings(
    DatabaseSettings, ProcessedS3Settings, ClientStoreSettings, DestinationSettings, SyncQueueSettings
):
    """Everything that `python -m syncer` reads."""

    delivery_max_bytes: Positive = 268_435_456
    """A file's compressed size: large enough for few files, small enough to be read by one worker of a query engine."""
    kafka_raw_topic: str = "events.raw"
    """Whose consumer positions tell what is processed; the syncer never connects to Kafka."""

    sync_concurrency: Annotated[int, Field(gt=0, le=256)] = 32
    """Clients served at once. Most of them wait for a network, above all for a bucket that doesn't answer."""
    sync_builds: Annotated[int, Field(gt=0, le=64)] = 4
    """Files put together at once, and as many that wait for the one before them: what bounds memory."""
    sync_spool_bytes: Positive = 3_221_225_472
    """Of all files on disk: put together, waiting, or on their way to a slow bucket. Below the spool's size in k8s/."""
    sync_visibility_seconds: Annotated[float, Field(ge=3, le=43_200)] = 60
    """Lease of a run, and invisibility of its message; both are renewed in thirds of it. After a crash others wait so
    long."""
    sync_drain_seconds: PositiveSeconds = 15
    """After SIGTERM: what is not done by then is handed back. Below the 30 s that Kubernetes grants."""
