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

-- What of a quota has been lent to gateways in a period, whether or not it is spent yet: together they never spend more.
CREATE TABLE quota_lent (
    -- The key's or the user's id.
    owner            BYTEA NOT NULL CHECK (length(owner) = 16),
    -- The period's first moment.
    period           BIGINT NOT NULL,
    tokens           BIGINT NOT NULL,
    cost             BIGINT NOT NULL,
    -- Of it, what was spent before the quota was there, by gateways that have not asked for anything yet.
    unclaimed_tokens BIGINT NOT NULL,
    unclaimed_cost   BIGINT NOT NULL,
    PRIMARY KEY (owner, period)
);

-- To whom.
CREATE TABLE quota_leases (
    owner   BYTEA NOT NULL CHECK (length(owner) = 16),
    period  BIGINT NOT NULL,
    -- As in `applied`.
    replica BYTEA NOT NULL CHECK (length(replica) = 16),
    tokens  BIGINT NOT NULL,
    cost    BIGINT NOT NULL,
    PRIMARY KEY (owner, period, replica)
);
