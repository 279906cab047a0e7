-- What retention has taken away. removed_at is set before the object is deleted from S3: the ledger never believes in an
-- object that is gone.
ALTER TABLE pipeline.raw_objects ADD COLUMN removed_at timestamptz;
ALTER TABLE pipeline.processed_objects ADD COLUMN removed_at timestamptz;

-- Events that nobody got before their time was over: held, quarantined, dead letters. They stay counted.
ALTER TABLE pipeline.chunk_counts
    DROP CONSTRAINT chunk_counts_disposition_check,
    ADD CONSTRAINT chunk_counts_disposition_check CHECK (disposition IN
        ('out', 'dropped_consent', 'quarantine', 'held', 'dead_letter', 'repeat', 'expired')) NOT VALID;
ALTER TABLE pipeline.cell_revisions
    DROP CONSTRAINT cell_revisions_cause_check,
    ADD CONSTRAINT cell_revisions_cause_check
        CHECK (cause IN ('replay', 'quarantine', 'release', 'retention')) NOT VALID;

-- Events of chunks that are too old for the ledger: a partition's chunks and these add up to its last sequence.
CREATE TABLE pipeline.retired_counts (
    topic     text    NOT NULL,
    partition integer NOT NULL,
    events    bigint  NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Hours before this one are not compared any more: a part of their rows is gone.
CREATE TABLE pipeline.retention (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    horizon  timestamptz NOT NULL
);
