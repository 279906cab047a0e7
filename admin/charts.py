"""Charts as SVG, drawn on the server: no script, and no style but classes, which app.css colours. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from admin.ledger.figures import Hour

WIDTH, HEIGHT = 720.0, 180.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 80.0, 6.0, 12.0, 26.0


def bars(hours: Sequence[Hour], *, title: str, unit: Callable[[float], str]) -> Markup:
    """One bar an hour. `unit` prints a value for the axis and for the summary that screen readers get.

    Empty when every hour is: an axis without bars looks like a fault.
    """
    if not any(item.value for item in hours):
        return Markup()
    top = ceiling(max((item.value for item in hours), default=0.0))
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    step = inner_width / max(len(hours), 1)
    parts = []
    for share in (0.0, 0.5, 1.0) if top > 1 else (0.0, 1.0):
        y = _TOP + inner_height * (1 - share)
        label = unit(top * share) if share else "0"
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for number, item in enumerate(hours):
        height = inner_height * item.value / top
        x = _LEFT + number * step
        if height:
            parts.append(
                f'<rect class="bar" x="{x + step * 0.12:.1f}" y="{_TOP + inner_height - height:.1f}"'
                f' width="{step * 0.76:.1f}" height="{height:.1f}" rx="1.5">'
                f"<title>{item.hour:%d %b %H:00} UTC: {unit(item.value)}</title></rect>"
            )
        if item.hour.hour % 12 == 0:
            label = f"{item.hour:%d %b}" if item.hour.hour == 0 else "12:00"
            parts.append(
                f'<text class="axis" x="{x + step / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>'
            )
    newest = unit(hours[-1].value) if hours else unit(0)
    highest = unit(max((item.value for item in hours), default=0.0))
    summary = f"{title}: highest {highest} an hour, this hour {newest}"
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{summary}">'
    return Markup(f"{opening}{''.join(parts)}</svg>")  # noqa: S704 - numbers and our own words


def ceiling(value: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * 0.999999)
