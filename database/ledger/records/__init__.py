"""Copies of the ledger's steps in S3, written before the step is committed: from them a lost ledger is rebuilt.

A record is no proof that its step was committed; what follows on it is. Chunks, plans of deliveries and revisions:
`ledger/...` in the processed bucket; layouts: beside the raw objects. What a raw object's row needs stands in the
object itself and in its metadata. Pure, but for what puts and for what reads the ledger.
"""

from database.ledger.records.chunks import CHUNKS, chunk_key, chunks_after, decode_chunk, encode_chunk, put_chunk
from database.ledger.records.layouts import LAYOUTS, decode_layout, put_layouts
from database.ledger.records.plans import (
    MANIFESTS,
    PLANS,
    Plan,
    PlannedFile,
    decode_plan,
    encode_plan,
    manifest_key,
    manifests_after,
    plan_key,
    plan_name,
    plans_after,
    put_plan,
)
from database.ledger.records.raw import History, history_text, known_histories, parse_history, parse_tails, tails_text
from database.ledger.records.revisions import (
    REVISIONS,
    RevisionRecord,
    decode_revision,
    encode_revision,
    put_revision,
)

__all__ = [
    "CHUNKS",
    "LAYOUTS",
    "MANIFESTS",
    "PLANS",
    "REVISIONS",
    "History",
    "Plan",
    "PlannedFile",
    "RevisionRecord",
    "chunk_key",
    "chunks_after",
    "decode_chunk",
    "decode_layout",
    "decode_plan",
    "decode_revision",
    "encode_chunk",
    "encode_plan",
    "encode_revision",
    "history_text",
    "known_histories",
    "manifest_key",
    "manifests_after",
    "parse_history",
    "parse_tails",
    "plan_key",
    "plan_name",
    "plans_after",
    "put_chunk",
    "put_layouts",
    "put_plan",
    "put_revision",
    "tails_text",
]
