-- Every row is stamped once before it is deleted. With room on its page the stamp is a heap-only update: no index entry,
-- and the page is tidied without vacuum. Only what is written from now on; a table with settings of its own keeps them.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('events_log') AND relkind = 'r' AND reloptions IS NULL) THEN
        ALTER TABLE events_log SET (fillfactor = 70);
    END IF;
END $$;
