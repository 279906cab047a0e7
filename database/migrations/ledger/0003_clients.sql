-- The client store of an installation without Firestore (CLIENT_STORE=postgres). Same three collections.
CREATE TABLE pipeline.clients (
    client_id  text        PRIMARY KEY,
    document   jsonb       NOT NULL CHECK (jsonb_typeof(document) = 'object'),
    updated_at timestamptz NOT NULL
);

-- Services ask every few seconds for what has changed.
CREATE INDEX clients_updated_at ON pipeline.clients (updated_at);

CREATE TABLE pipeline.domain_index (
    host       text        NOT NULL,
    client_id  text        NOT NULL,
    valid_from timestamptz NOT NULL DEFAULT 'epoch' CHECK (valid_from BETWEEN '0001-01-02Z' AND '9999-12-30Z'),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, host, valid_from)
);

CREATE INDEX domain_index_updated_at ON pipeline.domain_index (updated_at);

-- Who changed what and when. Old and new values of harmless fields only, never a secret.
CREATE TABLE pipeline.configuration_changes (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    client_id text        NOT NULL,
    actor     text        NOT NULL,
    document  jsonb       NOT NULL
);

-- The history of one client, newest first.
CREATE INDEX configuration_changes_client ON pipeline.configuration_changes (client_id, id);

-- The server's clock stamps every change, also one made by hand with SQL, and never backwards on one row: running
-- services see it within seconds. clock_timestamp, not now: a transaction's start may lie long before its commit.
CREATE FUNCTION pipeline.stamp_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    IF TG_OP = 'UPDATE' THEN
        NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at + interval '1 microsecond');
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER clients_stamp BEFORE INSERT OR UPDATE ON pipeline.clients
    FOR EACH ROW EXECUTE FUNCTION pipeline.stamp_updated_at();
CREATE TRIGGER domain_index_stamp BEFORE INSERT OR UPDATE ON pipeline.domain_index
    FOR EACH ROW EXECUTE FUNCTION pipeline.stamp_updated_at();
