"""What the allocator is told before deliveries begin."""

from __future__ import annotations

import ctypes

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MAPPED_BYTES = 32 << 20
"""Larger blocks are mapped one by one. Objects are smaller: mapping each costs a third of the CPU that they take."""

_KEPT_BYTES = 8 << 20
"""Freed memory that stays with the process, at most."""


def settle() -> None:
    """Let the memory of an object that has passed through serve the next one, whichever thread reads it.

    Left to itself, glibc keeps what is freed for each thread apart: a fifth of the peak was memory that nobody used.
    Does nothing to other allocators.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # not glibc
    for parameter, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _MAPPED_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
    ):
        mallopt(parameter, value)
