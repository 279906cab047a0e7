-- Where a rebuilt file goes: the client's bucket and prefix as they stand when a run takes it up, which need not be where
-- the file was delivered first.
ALTER TABLE pipeline.delivery_replacements
    ADD COLUMN bucket text,
    ADD COLUMN key    text,
    ADD CHECK (run_id IS NULL OR (bucket IS NOT NULL AND key IS NOT NULL));
