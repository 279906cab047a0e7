"""The standard level's work on quixstreams, as one would write it with that library: run by `bench.processor`.

JSON in, the client looked up, a `privacy` member with the consent added, JSON out, gzip, one object for each client,
hour and batch. It keeps no ledger, so it delivers at least once.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import boto3
import orjson
from quixstreams import Application
from quixstreams.models import JSONDeserializer
from quixstreams.sinks.base import BatchingSink, SinkBatch

_COMMIT_EVERY = 20_000
_CLIENTS = frozenset(os.environ["CLIENTS"].split(","))
_PURPOSES = ("analytics", "marketing")


class ObjectSink(BatchingSink):  # type: ignore[misc]
    """Each batch becomes one object per client and hour."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self._s3 = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=os.environ["ENDPOINT_URL"],
            aws_access_key_id=os.environ["ACCESS_KEY"],
            aws_secret_access_key=os.environ["SECRET_KEY"],
        )

    def setup(self) -> None:
        """Nothing to connect."""

    def write(self, batch: SinkBatch) -> None:
        """Called before the offsets of the batch are committed."""
        objects: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for item in batch:
            objects[(item.value["client_id"], item.value["created_at"][:13])].append(orjson.dumps(item.value))
        for (client, hour), lines in objects.items():
            body = gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1)
            key = f"peer/{client}/{hour}/{batch.partition}-{uuid.uuid4()}.ndjson.gz"
            self._s3.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=body)
            self.written += len(lines)


def filtered(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its `privacy` member."""
    if event["client_id"] not in _CLIENTS:
        raise KeyError(event["client_id"])
    said = event["raw_event_data"].get("consent") or {}
    consent = {purpose: said.get(purpose) is True for purpose in _PURPOSES}
    event["privacy"] = {"level": "standard", "policy_version": "1", "redacted": [], "consent": consent}
    return event


def main() -> None:
    """Drain the topic and write the report to the file that the first argument names."""
    events = int(os.environ["EVENTS"])
    app = Application(
        broker_address=os.environ["BROKER"],
        consumer_group=f"peer-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        commit_every=_COMMIT_EVERY,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    sink = ObjectSink()
    began: list[tuple[float, float]] = []

    def timed(event: dict[str, Any]) -> dict[str, Any]:
        if not began:
            began.append((time.monotonic(), time.process_time()))
        return filtered(event)

    topic = app.topic(os.environ["TOPIC"], value_deserializer=JSONDeserializer(loads=orjson.loads))
    frame = app.dataframe(topic).apply(timed)
    frame.sink(sink)
    app.run(count=events, timeout=60, collect=False)
    (start, cpu) = began[0]
    report = {
        "events": events,
        "written": sink.written,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    Path(sys.argv[1]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
