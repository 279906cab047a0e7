"""What the allocator and the garbage collector are told before the stream begins."""

from __future__ import annotations

import gc

from pipeline import memory

_MAPPED_BYTES = 8 << 20
"""Larger blocks are mapped one by one; those of raw files and Kafka batches are not."""

_YOUNG_OBJECTS = 20_000
"""Of the cycle collector: events hold no cycles, and each makes two objects that it would look at."""


def keep_freed() -> None:
    """Keep what a burst gave back for the next one.

    A burst is megabytes of lines that live for a moment: fresh pages for each took a sixth of an event's cost.
    """
    memory.keep_freed(mapped_bytes=_MAPPED_BYTES, padded_bytes=256 << 10)


def spare_collections() -> None:
    """Leave what there is by now out of garbage collections, and have fewer of them."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
