-- How far the journal of each gateway has been brought here. Raised in the transaction that files its rows.
CREATE TABLE applied (
    -- The 16 bytes that a journal got when it was made.
    replica BYTEA PRIMARY KEY NOT NULL CHECK (length(replica) = 16),
    -- The last of the journal's numbers whose row is here.
    seq     BIGINT NOT NULL,
    -- Counts the starts of the gateway on that journal: what an earlier one still sends is not taken.
    epoch   BIGINT NOT NULL
);

-- Gateways that are at work: the limits per minute are divided among them.
CREATE TABLE replicas (
    id      BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    -- By this database's clock.
    seen_at BIGINT NOT NULL
);
