"""What the allocator and the garbage collector are told before the stream begins."""

from __future__ import annotations

import ctypes
import gc

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

KEPT_BYTES = 8 << 20
"""Freed memory that stays with the process for the next burst, at most."""

_MAPPED_BYTES = 8 << 20
"""Larger blocks are mapped one by one; those of raw files and Kafka batches are not."""

YOUNG_OBJECTS = 20_000
"""Of the cycle collector: events hold no cycles, and each makes two objects that it would look at."""


def keep_freed() -> None:
    """Keep what a burst gave back for the next one. Does nothing to other allocators than glibc's.

    A burst is megabytes of lines that live for a moment. glibc would return them to the kernel each time and take
    fresh pages for the next: a sixth of an event's cost. Before any thread begins, so that all share one heap.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _MAPPED_BYTES),
        (_M_TRIM_THRESHOLD, KEPT_BYTES),
        (_M_TOP_PAD, 1 << 18),
    ):
        mallopt(parameter, value)


def spare_collections() -> None:
    """Leave what there is by now out of garbage collections, and have fewer of them."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
