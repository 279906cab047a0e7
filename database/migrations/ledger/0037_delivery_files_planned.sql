-- concurrently
-- The next file of a run, however many it has.
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_files_planned ON pipeline.delivery_files (run_id, id) WHERE state = 'planned';
