-- A layout that an operator has asked for. The streamer that runs gives it a position and moves it to topic_layouts.
CREATE TABLE pipeline.layout_requests (
    topic        text        PRIMARY KEY,
    partitions   integer     NOT NULL CHECK (partitions > 0),
    fanout       jsonb       NOT NULL DEFAULT '{}',
    requested_at timestamptz NOT NULL DEFAULT now(),
    problem      text        -- why it can't be taken up
);

-- Who holds a slot: one more for each streamer that took it over. With it goes the identity of its idempotent producer:
-- a broker refuses batches of an epoch lower than one that it has seen.
CREATE TABLE pipeline.stream_generations (
    slot           text     PRIMARY KEY,
    generation     bigint   NOT NULL,
    producer_id    bigint,             -- NULL: Kafka has to give one
    producer_epoch smallint NOT NULL DEFAULT 0
);
