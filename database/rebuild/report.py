"""What a rebuild found and did, for the operator."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MOST_NAMED = 100


@dataclass(kw_only=True)
class Report:
    """Counts by name; what never was committed; and what somebody should look at."""

    restored: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    """What the ledger had already."""
    never_committed: list[str] = field(default_factory=list)
    """Keys of objects: they exist for nobody, retention removes them."""
    doubts: list[str] = field(default_factory=list)
    """What S3 does not tell, with the decision that was taken."""
    dry_run: bool = False

    def doubt(self, text: str) -> None:
        """Note something for the operator."""
        self.doubts.append(text)

    def to_json(self) -> dict[str, Any]:
        """For --json and the audit log; long lists are cut."""
        return {
            "dry_run": self.dry_run,
            "restored": dict(self.restored),
            "known": dict(self.known),
            "never_committed": len(self.never_committed),
            "doubts": self.doubts[:MOST_NAMED],
        }

    def lines(self) -> list[str]:
        """For a person."""
        verb = "would be restored" if self.dry_run else "restored"
        lines = [f"{count} {name} {verb}" for name, count in self.restored.items() if count]
        lines += [f"{count} {name} were known" for name, count in self.known.items() if count]
        lines += [f"never committed: {key}" for key in self.never_committed[:MOST_NAMED]]
        lines += [f"look at this: {text}" for text in self.doubts]
        return lines or ["nothing found in S3"]
