-- The audit log as a chain: dense numbers, each entry hashes the one before, and the end is known.

-- The text itself is hashed; jsonb would print numbers and members its own way.
ALTER TABLE pipeline.audit_log
    ALTER COLUMN details DROP DEFAULT,
    ALTER COLUMN details TYPE json USING details::json,
    ALTER COLUMN id DROP IDENTITY,          -- an identity leaves gaps, and a gap is how a removed entry is noticed
    ALTER COLUMN at DROP DEFAULT,
    ADD UNIQUE (previous_hash);             -- two entries that follow the same one would be a fork

-- One row: the end of the chain. Its lock puts concurrent writers in a row; it shows when entries are cut off the end.
CREATE TABLE pipeline.audit_head (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    entries bigint  NOT NULL,
    hash    text    NOT NULL
) WITH (fillfactor = 10);
INSERT INTO pipeline.audit_head (entries, hash)
SELECT coalesce(max(id), 0), coalesce((SELECT hash FROM pipeline.audit_log ORDER BY id DESC LIMIT 1), repeat('0', 64))
  FROM pipeline.audit_log;

CREATE INDEX audit_log_client ON pipeline.audit_log (client_id, id);  -- one client's history, newest first

CREATE FUNCTION pipeline.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'pipeline.% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION pipeline.refuse_rewind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.entries <> OLD.entries + 1 THEN
        RAISE EXCEPTION 'pipeline.audit_head moves on by one' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON pipeline.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION pipeline.refuse_change();
CREATE TRIGGER audit_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON pipeline.audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION pipeline.refuse_change();
CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON pipeline.audit_head
    FOR EACH ROW EXECUTE FUNCTION pipeline.refuse_rewind();
