-- concurrently
-- What people and commands did, without the entry for each chunk of a hipaa client: what the audit page shows first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_changes
    ON pipeline.audit_log (id) WHERE action <> 'objects.stored';
-- The same of one client, on its page.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_log_changes_of_client
    ON pipeline.audit_log (client_id, id) WHERE action <> 'objects.stored';
