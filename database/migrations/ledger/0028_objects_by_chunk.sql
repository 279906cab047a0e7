-- concurrently
-- A cell's objects of now.
CREATE INDEX CONCURRENTLY IF NOT EXISTS processed_objects_by_chunk ON pipeline.processed_objects (chunk_id);
