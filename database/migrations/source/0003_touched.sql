-- Whether anything was written to a partition since the cleaner looked at it: a trigger that exists only on a partition
-- whose day is over counts. As definer, so that nobody who writes needs a right on the sequence.
CREATE SEQUENCE IF NOT EXISTS pipeline.events_log_touched;

CREATE OR REPLACE FUNCTION pipeline.events_log_touch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM nextval('pipeline.events_log_touched');
    RETURN NULL;
END $$;
