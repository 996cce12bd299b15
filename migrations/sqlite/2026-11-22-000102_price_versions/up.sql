-- Which prices a request was billed at; null: at none (a flat rate, or a row of before this column).
ALTER TABLE requests ADD COLUMN price_version INTEGER;

-- The prices behind each version, in picodollars per token. Filed when they come into force, and never changed.
CREATE TABLE prices (
    version      INTEGER PRIMARY KEY NOT NULL,
    input        INTEGER NOT NULL,
    cached_input INTEGER NOT NULL,
    output       INTEGER NOT NULL,
    -- null: as output.
    reasoning    INTEGER,
    -- null: as input.
    audio_input  INTEGER,
    -- null: as output.
    audio_output INTEGER,
    first_seen   INTEGER NOT NULL
) STRICT;
