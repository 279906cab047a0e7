"""Figures in the words of people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def count(value: float | None) -> str:
    """A number of events: 950, 12.4 k, 3.1 M."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            size = 1e3 if unit == "k" else limit
            return f"{value / size:.1f} {unit}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """A number of bytes."""
    if value is None:
        return "–"
    if value < 1024:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def duration(seconds: float | None) -> str:
    """A lag."""
    if seconds is None:
        return "unknown"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} days"


def rate(value: float) -> str:
    """Events a second."""
    if 0 < value < 0.05:
        return "under 0.1/s"
    return f"{value:,.0f}/s" if value >= 10 or value == 0 else f"{value:.1f}/s"


def moment(time: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return f"{time.astimezone(UTC):%-d %b %Y %H:%M}" if time else "–"


def plural(number: int, one: str, many: str = "") -> str:
    """`3 files`, `1 file`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
