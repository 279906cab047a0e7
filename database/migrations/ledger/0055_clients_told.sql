-- Services LISTEN to channel pipeline_clients, so that a change of settings reaches them at once, also one made by hand
-- with SQL. Without payload: a transaction that changes a thousand clients tells them once, and they ask what it was.
CREATE FUNCTION pipeline.tell_clients_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY pipeline_clients;
    RETURN NULL;
END $$;

-- Not for column sync: reports of deliveries are no settings.
CREATE TRIGGER clients_told AFTER INSERT OR DELETE OR UPDATE OF client_id, document, updated_at ON pipeline.clients
    FOR EACH STATEMENT EXECUTE FUNCTION pipeline.tell_clients_changed();
CREATE TRIGGER domain_index_told AFTER INSERT OR DELETE OR UPDATE ON pipeline.domain_index
    FOR EACH STATEMENT EXECUTE FUNCTION pipeline.tell_clients_changed();
