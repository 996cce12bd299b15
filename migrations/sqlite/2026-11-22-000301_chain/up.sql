-- Makes it visible when closed requests are changed, removed or replaced by an older copy of them: each one is linked to
-- the one that was closed before it.

-- One for each stretch of writing: a start of the gateway, or a new connection after an error.
CREATE TABLE chains (
    number    INTEGER PRIMARY KEY NOT NULL,
    began     INTEGER NOT NULL,
    -- How far the chain before it was known to go when this one began.
    after_row INTEGER NOT NULL,
    after     BLOB NOT NULL CHECK (length(after) = 32),
    -- How far this one goes, noted every few rows.
    head_row  INTEGER NOT NULL,
    head      BLOB NOT NULL CHECK (length(head) = 32),
    noted     INTEGER NOT NULL,
    -- Rows up to here were removed because they were old.
    base_row  INTEGER NOT NULL,
    base      BLOB NOT NULL CHECK (length(base) = 32)
) STRICT;

-- Number of the chain times 2^40, plus the row's place in it from 1; null: open, or written by a version without chains.
ALTER TABLE requests ADD COLUMN chained INTEGER;
-- The hash over everything in the chain up to this row; of the last row of each transaction only.
ALTER TABLE requests ADD COLUMN chain BLOB;
