-- concurrently
-- What a delivered file holds now is in its newest replacement: reconciliation, and the next replay's `old` columns.
CREATE INDEX CONCURRENTLY IF NOT EXISTS delivery_replacements_of_file ON pipeline.delivery_replacements (file_id, id);
