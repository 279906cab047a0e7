-- To whom a place in a client's bucket belongs. The keys below a prefix hold no client id: two clients with one place
-- would overwrite each other's files.
CREATE TABLE pipeline.destinations (
    endpoint   text        NOT NULL,  -- '' is Amazon's
    bucket     text        NOT NULL,
    prefix     text        NOT NULL,
    client_id  text        NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint, bucket, prefix)
);
