-- How a client's deliveries stand, for whoever reads the client store. No setting: it moves no updated_at.
ALTER TABLE pipeline.clients ADD COLUMN sync jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(sync) = 'object');

DROP TRIGGER clients_stamp ON pipeline.clients;
CREATE TRIGGER clients_stamp BEFORE INSERT OR UPDATE OF client_id, document, updated_at ON pipeline.clients
    FOR EACH ROW EXECUTE FUNCTION pipeline.stamp_updated_at();
