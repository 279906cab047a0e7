-- Changes of clients that are being made: the client store may be another server, so no transaction spans both. A row
-- stands here before the store changes, and goes in the transaction that writes the entry of the audit log.
CREATE TABLE pipeline.audit_intents (
    change_id text        PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text        NOT NULL,
    action    text        NOT NULL,
    client_id text        NOT NULL,
    details   json        NOT NULL  -- of the entry to be
);
