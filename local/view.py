"""The live view of the demo: rate and lag of every stage, the newest files, the ledger's balance."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from local.gauge import Gauge

_WINDOW_SECONDS = 10.0


class View:
    """Turns successive gauges into what a person sees."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, Gauge]] = deque()
        self.notes: deque[str] = deque(maxlen=4)

    def add(self, now: float, inserted: int, gauge: Gauge) -> None:
        """A look at the pipeline; `now` in seconds, monotonic."""
        self._seen.append((now, inserted, gauge))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()

    def render(self, title: str) -> Group:
        """What rich prints."""
        first_at, first_inserted, first = self._seen[0]
        last_at, inserted, gauge = self._seen[-1]
        seconds = max(last_at - first_at, 1e-3)
        table = Table(title=title, expand=True)
        for column, justify in (("stage", "left"), ("events", "right"), ("per second", "right"), ("behind", "right")):
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column("newest file", overflow="ellipsis", no_wrap=True)
        stages = (
            ("PostgreSQL events_log", inserted, first_inserted, None, "", ""),
            ("raw files on S3", gauge.raw, first.raw, gauge.raw_until, gauge.raw_key, "raw"),
            ("processed", gauge.processed, first.processed, gauge.processed_until, gauge.processed_key, "processed"),
            ("clients' buckets", gauge.delivered, first.delivered, gauge.delivered_until, gauge.delivered_key, "out"),
            ("deleted from events_log", gauge.deleted, first.deleted, gauge.deleted_until, "", ""),
        )
        for name, count, before, until, key, _ in stages:
            lag = f"{max(0.0, (datetime.now(UTC) - until).total_seconds()):.0f} s" if until else ""
            table.add_row(name, f"{count:,}", f"{max(0, count - before) / seconds:,.0f}", lag, _tail(key))
        balance = Text("ledger balances" if gauge.balances else "LEDGER DOES NOT BALANCE")
        balance.stylize("green" if gauge.balances else "bold red")
        balance.append(
            f" · quarantine {gauge.quarantined:,} · dropped for consent {gauge.dropped:,}"
            f" · held or dead letters {gauge.set_aside:,}",
            style="default",
        )
        return Group(table, balance, *(Text(note, style="dim") for note in self.notes))

    def line(self) -> str:
        """The same in one line, for output that is not a terminal."""
        _, inserted, gauge = self._seen[-1]
        return (
            f"inserted {inserted:,} · raw {gauge.raw:,} · processed {gauge.processed:,} · "
            f"delivered {gauge.delivered:,} of {gauge.out:,} · deleted {gauge.deleted:,}"
        )


def _tail(key: str | None) -> str:
    return key.rsplit("/", 1)[0] + "/…" if key else ""
