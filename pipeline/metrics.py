"""All metrics, in one place: name, kind, unit. Prometheus adds `_total` to counters."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

# streamer
STREAMED_EVENTS = Counter("streamer_events", "Rows decoded from the slot, those that were sent before included")
PUBLISHED_EVENTS = Counter("streamer_published_events", "Events that Kafka has acknowledged")
OVERSIZE_EVENTS = Counter("streamer_oversize_events", "Events too large for the topic: Kafka only points to them")
REPEATED_EVENTS = Counter("streamer_repeated_events", "Rows received again after a restart and not sent again")
RAW_OBJECTS = Counter("streamer_raw_objects", "Raw files that the ledger holds")
RAW_OBJECT_RETRIES = Counter("streamer_raw_object_retries", "Uploads of raw files that failed and are tried again")
RAW_EVENTS = Counter("streamer_raw_events", "Events in those raw files")
COMMIT_TO_KAFKA_SECONDS = Histogram(
    "streamer_commit_to_kafka_seconds",
    "From a row's commit to Kafka's answer, one observation a batch",
    buckets=_SECONDS,
)
SLOT_LAG_BYTES = Gauge("streamer_slot_lag_bytes", "WAL that the slot keeps: from its confirmed LSN to the server's end")
WAL_END_BYTES = Gauge("streamer_wal_end_bytes", "Where the server writes: grows while anybody writes to any database")
SLOT_HELD = Gauge("streamer_slot_held", "1 while this replica reads the slot, 0 while it stands by")
SLOT_LAG_SECONDS = Gauge("streamer_slot_lag_seconds", "How long ago the commits were made that are read now")
SLOT_RETAINED_BYTES = Gauge("streamer_slot_retained_wal_bytes", "WAL that the server keeps on its disk for the slot")
SLOT_SAFE_BYTES = Gauge(
    "streamer_slot_safe_wal_bytes", "WAL that may still be written before the slot can be lost; infinite without limit"
)
SLOT_IN_DANGER = Gauge("streamer_slot_in_danger", "1 when the slot is lost or soon will be: an alert")
UNEXPORTED_ROWS = Gauge(
    "streamer_unexported_rows", "Rows in the table for minutes and in no raw object: an alert when above 0 for long"
)
SNAPSHOTS = Counter("streamer_snapshots", "Snapshots begun, by the reason", ["reason"])
SNAPSHOT_EVENTS = Counter("streamer_snapshot_events", "Rows exported from the table, not from the slot")

# processor
CONSUMED_EVENTS = Counter("processor_events", "Records taken from Kafka, by what became of them", ["disposition"])
for _disposition in ("out", "dropped_consent", "quarantine", "held", "dead_letter", "repeat"):
    CONSUMED_EVENTS.labels(_disposition)  # there at 0: Prometheus sees no increase in a series that begins at 1
CHUNKS = Counter("processor_chunks", "Chunks committed to the ledger")
CHUNKS_LOST = Counter("processor_chunks_fenced", "Chunks thrown away because another owner was faster")
CHUNK_RETRIES = Counter("processor_chunk_retries", "Attempts to write a chunk that failed and are tried again")
CHUNK_SECONDS = Histogram("processor_chunk_commit_seconds", "From a chunk's closing to its commit", buckets=_SECONDS)
REDACTIONS = Counter("processor_redactions", "Redactions, by rule", ["rule"])
SEQUENCE_HOLES = Counter("processor_sequence_holes", "Holes in the sequence of a partition")
RELEASED_EVENTS = Counter("processor_released_events", "Held events released, by what became of them", ["disposition"])
HELD_OBJECTS = Gauge("processor_held_objects", "Objects of held events that wait for their client: alert above 0")
DIRECTORY_AGE_SECONDS = Gauge("processor_client_directory_age_seconds", "Since the clients' settings were last read")

# syncer
SYNC_MESSAGES = Counter("syncer_messages", "Messages of the queue, by what became of them", ["outcome"])
SYNC_RUNS = Counter("syncer_runs", "Attempts at delivery runs: finished, failed, retried, fenced", ["outcome"])
for _outcome in ("finished", "failed", "retried", "fenced"):
    SYNC_RUNS.labels(_outcome)
SYNC_FILES = Counter("syncer_files", "Files that arrived in clients' buckets")
SYNC_EVENTS = Counter("syncer_events", "Events in those files")
SYNC_BYTES = Counter("syncer_bytes", "Compressed bytes of those files")
SYNC_DROPPED = Counter("syncer_dropped_events", "Events that the policy at delivery took away, by reason", ["reason"])
SYNC_RUN_SECONDS = Histogram("syncer_run_seconds", "From the claim of a run to its end", buckets=_SECONDS)
SYNC_FAILING_CLIENTS = Gauge("syncer_failing_clients", "Clients whose last run failed: an alert when above 0")
SYNC_OVERDUE_CLIENTS = Gauge(
    "syncer_overdue_clients", "Clients without a finished run for two periods: an alert when above 0 for long"
)

# cleaner
CLEANED_OBJECTS = Counter("cleaner_objects", "Raw objects that were verified, stamped, deleted", ["step"])
CLEANED_ROWS = Counter("cleaner_rows", "Rows that were stamped, deleted, found gone, found changed", ["outcome"])
CLEANUP_REFUSED = Gauge(
    "cleaner_refused_objects",
    "Raw objects on whose strength nothing is deleted, by problem: alert above 0",
    ["problem"],
)
CLEANUP_BLOCKED = Gauge("cleaner_blocked", "1 while this cleaner does nothing, as on an unknown server: alert")
CLEANUP_BATCH_SECONDS = Histogram("cleaner_batch_seconds", "A batch of stamps or deletions", buckets=_SECONDS)
CLEANUP_REST_SECONDS = Gauge("cleaner_rest_seconds", "The rest after the last batch: long when the database is busy")
CLEANUP_OLDEST_SECONDS = Gauge("cleaner_oldest_object_seconds", "Age of the oldest raw object with rows to delete")
LEDGER_IMBALANCES = Gauge(
    "ledger_imbalances", "What doesn't add up in the ledger's last hours, by kind: alert above 0", ["kind"]
)
LEDGER_SET_BACK = Gauge(
    "ledger_set_back", "1 while this service refuses to work because the ledger is older than what was done: alert"
)
LEDGER_LAG_SECONDS = Gauge(
    "ledger_lag_seconds",
    "export: since all that was committed is in raw objects; processing: age of the oldest event that waits for it",
    ["stage"],
)
LEDGER_UNPROCESSED_EVENTS = Gauge(
    "ledger_unprocessed_events", "Events of a partition that are exported and in no chunk", ["partition"]
)
LEDGER_FAILING_DELIVERY_SECONDS = Gauge(
    "ledger_failing_delivery_seconds",
    "Age of a client's delivery whose last attempt failed, by client: alert above 0",
    ["client_id", "error_class"],
)

# whoever keeps the clients in memory
KEY_AGE_SECONDS = Gauge(
    "client_key_age_seconds", "Age of the oldest secret that an active client uses: pseudonym key, bucket", ["kind"]
)
