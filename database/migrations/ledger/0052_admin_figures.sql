-- concurrently
-- The admin's overview asks every few seconds what was done in the last minutes.
CREATE INDEX CONCURRENTLY IF NOT EXISTS chunks_by_time ON pipeline.chunks (committed_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_files_by_time ON pipeline.delivery_files (delivered_at) WHERE state = 'delivered';
CREATE INDEX CONCURRENTLY IF NOT EXISTS raw_objects_by_time ON pipeline.raw_objects (exported_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS raw_objects_by_deletion ON pipeline.raw_objects (deleted_at);
