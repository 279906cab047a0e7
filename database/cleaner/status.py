"""What the service's loop and its HTTP routes share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Status:
    """What /status shows."""

    state: str = "starting"
    dry_run: bool = False
    blocked: str | None = None
    error: str | None = None
    last_turn_at: str = ""
    last_report: dict[str, Any] = field(default_factory=dict)
    last_dry_run: dict[str, Any] | None = None
    objects: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    imbalances: dict[str, int] = field(default_factory=dict)
    """Of the last reconciliation, by kind."""
    balance_due: float = 0.0
    """By time.monotonic, like the next."""
    upkeep_due: float = 0.0


@dataclass(kw_only=True)
class Orders:
    """What was asked for over HTTP, taken up by the next turn."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    dry_run: bool = False
    retry: bool = False
