"""What a replay reads from the environment: all that the processor does, and its own pace."""

from __future__ import annotations

from pipeline.settings import Positive
from processor.settings import ProcessorSettings


class ReplaySettings(ProcessorSettings):
    """All variables of a replay."""

    replay_events_per_second: Positive = 20_000
    """Read from Kafka or raw files. Broker, buckets and ledger are the live pipeline's too, which keeps its pace."""
