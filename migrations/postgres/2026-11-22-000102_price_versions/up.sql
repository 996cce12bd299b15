-- Which prices a request was billed at; null: at none (a flat rate, or a row of before this column).
ALTER TABLE requests ADD COLUMN price_version BIGINT;

-- The prices behind each version, in picodollars per token. Filed when they come into force, and never changed.
CREATE TABLE prices (
    version      BIGINT PRIMARY KEY NOT NULL,
    input        BIGINT NOT NULL,
    cached_input BIGINT NOT NULL,
    output       BIGINT NOT NULL,
    -- null: as output.
    reasoning    BIGINT,
    -- null: as input.
    audio_input  BIGINT,
    -- null: as output.
    audio_output BIGINT,
    first_seen   BIGINT NOT NULL
);
