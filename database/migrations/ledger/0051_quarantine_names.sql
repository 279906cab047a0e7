-- Which names the events in a quarantine object came with, counted once by the admin: whoever registers a domain wants to
-- know what waits for it. Only what is a host name or site id; site_id and host are '' where the event has none.
CREATE TABLE pipeline.quarantine_names (
    processed_object_id bigint NOT NULL REFERENCES pipeline.processed_objects ON DELETE CASCADE,
    client_id           text   NOT NULL,  -- what the event itself says; '' for nothing, a collector's marker, or no id
    site_id             text   NOT NULL,
    host                text   NOT NULL,
    events              bigint NOT NULL CHECK (events > 0),
    PRIMARY KEY (processed_object_id, client_id, site_id, host)
);
