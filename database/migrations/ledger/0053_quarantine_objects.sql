-- concurrently
-- Quarantine objects that nobody has counted yet are looked for again and again.
CREATE INDEX CONCURRENTLY IF NOT EXISTS processed_objects_quarantine ON pipeline.processed_objects (id)
    WHERE kind = 'quarantine' AND superseded_by IS NULL;
