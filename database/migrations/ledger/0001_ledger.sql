-- The ledger: nothing exists until a row in it says so.
-- Positions are text of fixed width that sorts like the triple (epoch, commit LSN, index) under collation "C".
CREATE SCHEMA IF NOT EXISTS pipeline;

CREATE DOMAIN pipeline.position AS text COLLATE "C"
    CHECK (VALUE ~ '^[0-9A-F]{8}-[0-9A-F]{16}-[0-9]{20}$');

-- One history of the database: a system identifier and a timeline.
CREATE TABLE pipeline.epochs (
    epoch             integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system_identifier text        NOT NULL,
    timeline          integer     NOT NULL,
    begins_at_lsn     pg_lsn      NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (system_identifier, timeline)
);

-- One row for each slot: how far the ledger is. last_position is the compare-and-set of the streamer.
CREATE TABLE pipeline.stream_state (
    slot          text        PRIMARY KEY,
    epoch         integer     NOT NULL REFERENCES pipeline.epochs,
    state         text        NOT NULL CHECK (state IN ('snapshot', 'streaming')),
    confirmed_lsn pg_lsn      NOT NULL,
    last_position pipeline.position,
    caught_up_at  timestamptz,          -- every commit before this time is in a raw object
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- How events were spread over partitions from a position on.
CREATE TABLE pipeline.topic_layouts (
    topic         text              NOT NULL,
    from_position pipeline.position NOT NULL,
    partitions    integer           NOT NULL CHECK (partitions > 0),
    fanout        jsonb             NOT NULL DEFAULT '{}',  -- client_id: number of partitions its sessions spread over
    PRIMARY KEY (topic, from_position)
);

CREATE TABLE pipeline.raw_objects (
    id                 bigint            GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket             text              NOT NULL,
    key                text              NOT NULL,
    previous_position  pipeline.position UNIQUE,  -- a chain: nothing between two objects is missing
    first_position     pipeline.position NOT NULL UNIQUE,
    last_position      pipeline.position NOT NULL UNIQUE,
    kafka_end_offsets  jsonb             NOT NULL,  -- partition: offset after the object's last event
    kafka_end_sequences jsonb            NOT NULL,  -- partition: sequence of the object's last event
    events             bigint            NOT NULL CHECK (events > 0),
    bytes              bigint            NOT NULL,
    sha256             text              NOT NULL,
    min_commit_time    timestamptz       NOT NULL,
    max_commit_time    timestamptz       NOT NULL,
    exported_at        timestamptz       NOT NULL DEFAULT now(),
    verified_at        timestamptz,
    stamped_at         timestamptz,
    deleted_at         timestamptz,
    UNIQUE (bucket, key),
    CHECK (first_position <= last_position),
    CHECK (previous_position IS NULL OR previous_position < first_position)
);

-- source_client_id is '' for NULL and '!' for what can't be an id, in raw_counts and in chunk_counts alike.
CREATE TABLE pipeline.raw_counts (
    raw_object_id    bigint      NOT NULL REFERENCES pipeline.raw_objects,
    hour             timestamptz NOT NULL,
    source_client_id text        NOT NULL,
    events           bigint      NOT NULL CHECK (events > 0),
    PRIMARY KEY (raw_object_id, hour, source_client_id)
);
CREATE INDEX raw_counts_by_hour ON pipeline.raw_counts (hour);  -- reconciliation

-- next_offset is the compare-and-set of the processor.
CREATE TABLE pipeline.consumer_positions (
    topic         text              NOT NULL,
    partition     integer           NOT NULL,
    topic_id      text              NOT NULL DEFAULT '',
    next_offset   bigint            NOT NULL,
    last_sequence bigint            NOT NULL,  -- -1: none yet
    last_position pipeline.position NOT NULL,
    updated_at    timestamptz       NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE TABLE pipeline.chunks (
    id             uuid              PRIMARY KEY,
    topic          text              NOT NULL,
    partition      integer           NOT NULL,
    generation     integer           NOT NULL,
    first_offset   bigint            NOT NULL,
    next_offset    bigint            NOT NULL,
    first_position pipeline.position NOT NULL,
    last_position  pipeline.position NOT NULL,
    committed_at   timestamptz       NOT NULL DEFAULT now(),
    CHECK (first_offset <= next_offset)  -- equal when all of it was refilled from raw files
);
CREATE INDEX chunks_by_partition ON pipeline.chunks (topic, partition, first_offset);  -- replay, support

CREATE TABLE pipeline.chunk_counts (
    chunk_id         uuid        NOT NULL REFERENCES pipeline.chunks,
    hour             timestamptz NOT NULL,
    source_client_id text        NOT NULL,
    client_id        text        NOT NULL,  -- '' where no client is known
    disposition      text        NOT NULL
        CHECK (disposition IN ('out', 'dropped_consent', 'quarantine', 'held', 'dead_letter', 'repeat')),
    events           bigint      NOT NULL CHECK (events > 0),
    PRIMARY KEY (chunk_id, hour, source_client_id, client_id, disposition)
);
CREATE INDEX chunk_counts_by_hour ON pipeline.chunk_counts (hour);  -- reconciliation

CREATE TABLE pipeline.processed_objects (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id        uuid        NOT NULL REFERENCES pipeline.chunks,
    kind            text        NOT NULL CHECK (kind IN ('client', 'quarantine', 'held', 'dead_letter')),
    client_id       text        NOT NULL,
    hour            timestamptz NOT NULL,
    bucket          text        NOT NULL,
    key             text        NOT NULL,
    events          bigint      NOT NULL CHECK (events > 0),
    bytes           bigint      NOT NULL,
    sha256          text        NOT NULL,
    privacy_level   text        NOT NULL,
    policy_version  text        NOT NULL,
    min_commit_time timestamptz NOT NULL,
    max_commit_time timestamptz NOT NULL,
    superseded_by   bigint,
    UNIQUE (bucket, key)
);
-- The plan of a delivery: what the client has and no file holds yet.
CREATE INDEX processed_objects_by_client ON pipeline.processed_objects (client_id, hour)
    WHERE kind = 'client' AND superseded_by IS NULL;

CREATE TABLE pipeline.sync_runs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id   text        NOT NULL,
    run_key     text        NOT NULL,
    frequency   text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('running', 'failed', 'finished')),
    attempts    integer     NOT NULL DEFAULT 0,
    error_class text,
    error       text,
    bucket      text        NOT NULL,  -- where the client's manifests go; moves with the client's settings
    prefix      text        NOT NULL,
    complete_through timestamptz,      -- the last hour that is whole
    manifest    json,                  -- json, not jsonb: it keeps the text whose digest the next manifest names
    manifest_sha256 text,
    owner       uuid,                  -- who delivers it; every later statement compares it
    lease_until timestamptz,           -- after this time another one may take over
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (client_id, run_key),
    CHECK ((status = 'finished') = (finished_at IS NOT NULL)),
    CHECK (status <> 'finished' OR manifest_sha256 IS NOT NULL),
    CHECK ((manifest IS NULL) = (manifest_sha256 IS NULL))
);
-- One open run per client: an unfinished one is finished under its own keys first.
CREATE UNIQUE INDEX sync_runs_one_open ON pipeline.sync_runs (client_id) WHERE status <> 'finished';
CREATE INDEX sync_runs_last ON pipeline.sync_runs (client_id, id DESC);  -- the manifest before, and the status page

CREATE TABLE pipeline.delivery_files (
    id                  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id              bigint      NOT NULL REFERENCES pipeline.sync_runs,
    bucket              text        NOT NULL,
    key                 text        NOT NULL,
    hour                timestamptz NOT NULL,
    policy_version      text,
    state               text        NOT NULL CHECK (state IN ('planned', 'delivered')),
    events              bigint,
    bytes               bigint,
    sha256              text,        -- set before the first PUT: what an attempt may have left under the key
    rewritten           boolean     NOT NULL DEFAULT false,  -- attempts had different bytes: the next PUT overwrites
    dropped_at_delivery bigint      NOT NULL DEFAULT 0,
    first_commit_time   timestamptz,
    last_commit_time    timestamptz,
    delivered_at        timestamptz,
    UNIQUE (run_id, bucket, key),
    CHECK (state = 'planned' OR (events IS NOT NULL AND bytes IS NOT NULL AND sha256 IS NOT NULL))
);

CREATE TABLE pipeline.delivery_members (
    file_id             bigint  NOT NULL REFERENCES pipeline.delivery_files,
    ordinal             integer NOT NULL,
    processed_object_id bigint  NOT NULL UNIQUE REFERENCES pipeline.processed_objects,
    PRIMARY KEY (file_id, ordinal)
);
-- Hours with held events are not complete.
CREATE INDEX processed_objects_held ON pipeline.processed_objects (client_id, hour)
    WHERE kind = 'held' AND superseded_by IS NULL;

CREATE TABLE pipeline.replays (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id  text,
    first_hour timestamptz NOT NULL,
    last_hour  timestamptz NOT NULL,
    source     text        NOT NULL CHECK (source IN ('kafka', 'raw')),
    state      text        NOT NULL CHECK (state IN ('running', 'finished', 'failed')),
    summary    jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Append-only: each entry holds the hash of the one before.
CREATE TABLE pipeline.audit_log (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT now(),
    actor         text        NOT NULL,
    action        text        NOT NULL,
    client_id     text,
    subject       text        NOT NULL DEFAULT '',
    details       jsonb       NOT NULL DEFAULT '{}',
    previous_hash text        NOT NULL,
    hash          text        NOT NULL UNIQUE
);
