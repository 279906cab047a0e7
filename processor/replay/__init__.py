"""Replay: events that were processed before are attributed and filtered anew, and take the place of what there was.

The unit is the cell: one client's events of one hour of commit time. What to read, what to compare and what to
supersede is decided in pure code (`spans`, `cells`, `rework`); `hour` does it, `pipeline` goes through the hours.
"""
