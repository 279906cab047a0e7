"""Clients' buckets: the way in, what a refusal means, and the test whether a delivery would work."""

from __future__ import annotations

from pipeline.destination.access import ClientAccess, missing_settings
from pipeline.destination.connection import ConnectionReport, Step, test_connection
from pipeline.destination.refusals import ClientBucketError, Failure, code_of, failure_of, refusal

__all__ = [
    "ClientAccess",
    "ClientBucketError",
    "ConnectionReport",
    "Failure",
    "Step",
    "code_of",
    "failure_of",
    "missing_settings",
    "refusal",
    "test_connection",
]
