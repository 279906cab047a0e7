-- Two copies that were restored without a common archive take the same timeline; where it begins tells them apart.
ALTER TABLE pipeline.epochs
    DROP CONSTRAINT epochs_system_identifier_timeline_key,
    ADD UNIQUE (system_identifier, timeline, begins_at_lsn);
