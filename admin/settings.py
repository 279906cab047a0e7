"""What the admin reads from the environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.settings import DatabaseSettings


class AdminSettings(DatabaseSettings):
    """All variables of the admin."""

    kafka_raw_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "events.raw"
