"""The syncer's queue: what may be on it, and how to put it there; for all who order deliveries."""

from __future__ import annotations

from pipeline.syncqueue.messages import (
    MANUAL,
    ClientSync,
    Hours,
    HoursError,
    MessageError,
    Tick,
    manual_order,
    parse,
    run_key,
    run_time,
)
from pipeline.syncqueue.queue import Message, Queue, open_queue

__all__ = [
    "MANUAL",
    "ClientSync",
    "Hours",
    "HoursError",
    "Message",
    "MessageError",
    "Queue",
    "Tick",
    "manual_order",
    "open_queue",
    "parse",
    "run_key",
    "run_time",
]
