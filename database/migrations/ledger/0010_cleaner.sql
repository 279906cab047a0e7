-- What the cleaner has to say about a raw object beside its three dates.
ALTER TABLE pipeline.raw_objects
    ADD COLUMN stamped_rows     bigint,                     -- rows that carried our stamp when stamped_at was set
    ADD COLUMN deleted_rows     bigint NOT NULL DEFAULT 0,  -- rows that the cleaner deleted
    ADD COLUMN gone_rows        bigint,                     -- rows that somebody else had deleted before
    ADD COLUMN cleanup_problem  text,                       -- why nothing more is deleted on the strength of it: an alert
    ADD COLUMN cleanup_tried_at timestamptz;                -- when that was found; it is looked at again later

-- The cleaner's work list, asked every second; it stays as short as the delay is.
CREATE INDEX raw_objects_to_clean ON pipeline.raw_objects (first_position) WHERE deleted_at IS NULL;
