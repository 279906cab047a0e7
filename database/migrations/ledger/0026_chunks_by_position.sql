-- concurrently
-- Where a chunk's events begin is where the chunk before it ended: replay.
CREATE INDEX CONCURRENTLY IF NOT EXISTS chunks_by_position ON pipeline.chunks (topic, partition, last_position);
