"""What a replay has changed, or would change: counts, rules, paths, policies. Never values. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from database.ledger.chunks import CountKey
from database.ledger.replays import Order
from processor.replay.cells import QUARANTINE, Cell
from processor.replay.rework import Findings, Outturn
from processor.replay.shown import paths_compared, rules_compared

MOST_CELLS = 1_000
"""Cells that a summary names one by one; all are in its sums."""

CellSummary = dict[str, Any]


def summary_of(outturn: Outturn, findings: Findings, source: str, files_to_rebuild: int) -> CellSummary:
    """What becomes of one cell. `source`: kafka or raw; `files_to_rebuild`: delivered files that its objects are in."""
    cell = outturn.cell
    return {
        **_name(cell),
        "state": "changed" if outturn.is_changed else "unchanged",
        "source": source,
        "events": sum(cell.rows.values()),
        "before": _by_disposition(cell.rows),
        "after": _by_disposition(outturn.counts),
        "clients_after": _by_client(outturn.counts),
        "policy_versions_before": sorted({item.policy_version for item in cell.objects if item.policy_version}),
        "policy_versions_after": sorted(findings.policy_versions),
        "privacy_levels_before": sorted({item.privacy_level for item in cell.objects if item.privacy_level}),
        "privacy_levels_after": sorted(findings.privacy_levels),
        "redactions": rules_compared(outturn.shown_before, outturn.shown_after),
        "paths": paths_compared(outturn.shown_before, outturn.shown_after),
        "objects": {
            "superseded": len(outturn.superseded),
            "new": outturn.new_objects,
            "kept": len(outturn.kept),
        },
        "files_to_rebuild": files_to_rebuild,
    }


def refusal_of(cell: Cell, reasons: Iterable[str], state: str = "refused") -> CellSummary:
    """Nothing becomes of the cell, and why. `state`: refused, which is a failure, or skipped."""
    return {**_name(cell), "state": state, "events": sum(cell.rows.values()), "reasons": list(reasons)}


def _name(cell: Cell) -> dict[str, Any]:
    return {
        "client_id": cell.client_id if cell.client_id != QUARANTINE else None,
        "hour": f"{cell.hour:%Y-%m-%dT%H}",
    }


def _by_disposition(rows: Mapping[Any, int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, key), events in rows.items():
        counts[key[3]] += events
    return dict(sorted(counts.items()))


def _by_client(rows: Mapping[tuple[Any, CountKey], int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, key), events in rows.items():
        counts[key[2]] += events
    return dict(sorted(counts.items()))


@dataclass(slots=True)
class Report:
    """The summary of a replay while it grows."""

    order: Order
    cells: list[CellSummary] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    sums: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("before", "after", "objects")}
    )
    redactions: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By rule: before and after."""
    refusals: list[str] = field(default_factory=list)

    def add(self, cell: CellSummary) -> None:
        """One cell more."""
        self.states[cell["state"]] += 1
        for name, sums in self.sums.items():
            sums.update(cell.get(name, {}))
        for rule, counts in cell.get("redactions", {}).items():
            self.redactions[rule].update(counts)
        if cell["state"] == "refused":
            who = cell["client_id"] or "quarantine"
            self.refusals += [f"{who}, hour {cell['hour']}: {reason}" for reason in cell["reasons"]]
        if len(self.cells) < MOST_CELLS and cell["state"] != "unchanged":
            self.cells.append(cell)

    def to_json(self) -> dict[str, Any]:
        """For the ledger, and for the one who asked."""
        order = self.order
        return {
            "client_id": order.client_id,
            "since": f"{order.first_hour:%Y-%m-%dT%H}",
            "until": f"{order.last_hour:%Y-%m-%dT%H}",
            "quarantine": order.quarantine,
            "dry_run": order.dry_run,
            "cells": {state: self.states[state] for state in ("changed", "unchanged", "skipped", "refused")},
            **{name: dict(sorted(sums.items())) for name, sums in self.sums.items()},
            "redactions": {rule: dict(counts) for rule, counts in sorted(self.redactions.items())},
            "by_cell": self.cells,
        }
