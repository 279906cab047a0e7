"""What a retention run did, or in a dry run would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Amount:
    """So many things of one class."""

    count: int = 0
    bytes: int = 0
    events: int = 0

    def add(self, *, count: int = 1, size: int = 0, events: int = 0) -> None:
        """Count some more."""
        self.count += count
        self.bytes += size
        self.events += events


CLASSES = (
    "raw", "processed", "undelivered", "held", "quarantine", "dead_letter", "orphans", "ledger_chunks",
    "ledger_raw_objects", "ledger_deliveries",
)  # fmt: skip


@dataclass(kw_only=True)
class Report:
    """By class: what was deleted. `kept`: what is old enough and stays, with the reason."""

    dry_run: bool
    deleted: dict[str, Amount] = field(default_factory=lambda: {name: Amount() for name in CLASSES})
    kept: dict[str, Amount] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For --json and the audit log."""

        def amounts(found: dict[str, Amount]) -> dict[str, Any]:
            return {
                name: {"count": amount.count, "bytes": amount.bytes, "events": amount.events}
                for name, amount in found.items()
                if amount.count
            }

        return {
            "dry_run": self.dry_run,
            "deleted": amounts(self.deleted),
            "kept": amounts(self.kept),
            "problems": self.problems,
        }

    def lines(self) -> list[str]:
        """For a person."""
        verb = "would be deleted" if self.dry_run else "deleted"
        lines = [
            f"{name}: {amount.count} {verb}, {amount.bytes} bytes, {amount.events} events"
            for name, amount in self.deleted.items()
            if amount.count
        ]
        lines += [f"kept: {name}: {amount.count}, {amount.events} events" for name, amount in self.kept.items()]
        lines += [f"problem: {problem}" for problem in self.problems]
        return lines or ["nothing is old enough"]
