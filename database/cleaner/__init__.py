"""The cleaner: rows leave events_log only after their bytes were read back from S3.

For each raw object: read back and compare with the ledger, stamp its rows, wait, read back once more, and delete the
rows that are still what the object holds. Every decision is made anew from ledger, object and row, so a cleaner may be
killed anywhere, and several may run.
"""
