"""The pipeline as a picture: each stage with its rate and lag, across on a desk, down on a phone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from admin import words
from admin.ledger.figures import Rates
from database.source import Slot

State = Literal["ok", "warn", "bad", "idle"]
_MARKS: dict[State, str] = {"ok": "✓", "warn": "!", "bad": "✕", "idle": "–"}
_SAID: dict[State, str] = {"ok": "well", "warn": "behind", "bad": "needs help", "idle": "idle"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A box of the picture; `via` stands on the arrow that leads to it."""

    name: str
    via: str
    lines: tuple[str, str]
    state: State


def stages(status: Mapping[str, Any], rates: Rates, slot: Slot | None, *, clients: int, failing: int) -> list[Stage]:
    """The boxes in the order of the events."""
    export, processing, delivery, cleanup = (status[name] for name in ("export", "processing", "delivery", "cleanup"))
    waiting = max(0, export["events"] - processing["events"])
    pending = delivery["pending_events"]
    return [
        Stage(
            name="events_log",
            via="",
            lines=(f"{words.rate(rates.deleted)} deleted", _waiting(cleanup["waiting"])),
            state="bad" if cleanup["refused"] else "ok",
        ),
        Stage(
            name="Streamer",
            via="WAL",
            lines=(words.rate(rates.exported), _behind(export["lag_seconds"])),
            state=_streamer(slot, export["lag_seconds"]),
        ),
        Stage(
            name="Processor",
            via="Kafka",
            lines=(words.rate(rates.processed), f"{words.count(waiting)} wait"),
            state="warn" if processing["lag_seconds"] > 1800 else "ok",
        ),
        Stage(
            name="Syncer",
            via="S3",
            lines=(words.rate(rates.delivered), f"{words.count(pending)} wait"),
            state="bad" if failing else "ok",
        ),
        Stage(
            name="Clients",
            via="S3",
            lines=(words.plural(clients, "client"), f"{failing} failing" if failing else "all reached"),
            state="bad" if failing else "ok",
        ),
    ]


def _waiting(files: int) -> str:
    return f"{words.plural(files, 'file')} {'waits' if files == 1 else 'wait'}"


def _behind(seconds: float | None) -> str:
    return "lag unknown" if seconds is None else f"{words.duration(seconds)} behind"


def _streamer(slot: Slot | None, lag: float | None) -> State:
    if slot is None or slot.danger or not slot.active:
        return "bad"
    return "warn" if lag is None or lag > 300 else "ok"


def across(boxes: list[Stage]) -> Markup:
    """For a wide screen."""
    width, height, box, gap = 1038, 178, 140, 84
    parts = [_open("flow wide", width, height, boxes)]
    for number, stage in enumerate(boxes):
        x = number * (box + gap) + 1
        if number:
            parts.append(_arrow(x - gap + 6, 56, x - 6, 56, stage.via, x - gap / 2, 42))
        parts.append(_box(stage, x, 14, box, 84))
    # What the streamer wrote is read back before a row is deleted.
    first, second = box / 2, box + gap + box / 2
    middle = (first + second) / 2
    parts.append(
        f'<path class="edge" d="M{second:.0f} 98 V150 H{first:.0f} V108" marker-end="url(#tip-wide)"/>'
        f'<text class="via" x="{middle:.0f}" y="142" text-anchor="middle">raw S3</text>'
        f'<text class="via" x="{middle:.0f}" y="168" text-anchor="middle">cleaner reads back, then deletes</text>'
    )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - texts are escaped in _box


def down(boxes: list[Stage]) -> Markup:
    """For a phone."""
    width, box, gap = 320, 78, 44
    parts = [_open("flow narrow", width, len(boxes) * (box + gap) - gap + 2, boxes)]
    for number, stage in enumerate(boxes):
        y = number * (box + gap) + 1
        if number:
            parts.append(_arrow(160, y - gap + 5, 160, y - 5, stage.via, 172, y - gap / 2 + 4, anchor="start"))
        parts.append(_box(stage, 1, y, width - 2, box))
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - texts are escaped in _box


def _open(kind: str, width: int, height: int, boxes: list[Stage]) -> str:
    name = kind.split()[-1]
    said = "; ".join(f"{box.name}: {box.lines[0]}, {box.lines[1]}, {_SAID[box.state]}" for box in boxes)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
        f'<defs><marker id="tip-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )


def _arrow(
    x1: float, y1: float, x2: float, y2: float, via: str, text_x: float, text_y: float, *, anchor: str = "middle"
) -> str:
    name = "wide" if y1 == y2 else "narrow"
    return (
        f'<line class="edge" x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" marker-end="url(#tip-{name})"/>'
        f'<text class="via" x="{text_x:.0f}" y="{text_y:.0f}" text-anchor="{anchor}">{escape(via)}</text>'
    )


def _box(stage: Stage, x: float, y: float, width: float, height: float) -> str:
    mark = f'<text class="mark {stage.state}" x="{x + width - 20:.0f}" y="{y + 26:.0f}" text-anchor="middle">'
    return (
        f'<rect class="box {stage.state}" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="10"/>'
        f'<text class="name" x="{x + 14:.0f}" y="{y + 26:.0f}">{escape(stage.name)}</text>'
        f"{mark}{_MARKS[stage.state]}</text>"
        f'<text class="figure" x="{x + 14:.0f}" y="{y + 48:.0f}">{escape(stage.lines[0])}</text>'
        f'<text class="figure" x="{x + 14:.0f}" y="{y + 67:.0f}">{escape(stage.lines[1])}</text>'
    )
