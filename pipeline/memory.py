"""What the allocator is told before the work begins."""

from __future__ import annotations

import ctypes

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_KEPT_BYTES = 8 << 20
"""Freed memory that stays with the process, at most."""


def keep_freed(*, mapped_bytes: int, padded_bytes: int = 128 << 10) -> None:
    """Let freed memory serve what comes next, whichever thread asks. Does nothing to other allocators than glibc's.

    Left to itself, glibc keeps what is freed for each thread apart, and returns large blocks to the kernel to take
    fresh pages for the next. Blocks above `mapped_bytes` are still mapped one by one; the heap grows by `padded_bytes`
    more than was asked for. To be called before any thread begins, so that all share one heap.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, mapped_bytes),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, padded_bytes),
    ):
        mallopt(parameter, value)
