-- Tokens per minute of a key. null: the settings' default; -1: unlimited.
ALTER TABLE keys ADD COLUMN tpm BIGINT CHECK (tpm >= -1);

-- Limits per minute that all keys of a user share. A user without a row has none; null and -1: unlimited.
CREATE TABLE user_limits (
    user_id     BYTEA PRIMARY KEY NOT NULL REFERENCES users (id),
    rpm         BIGINT CHECK (rpm >= -1),
    tpm         BIGINT CHECK (tpm >= -1),
    concurrency BIGINT CHECK (concurrency >= -1)
);

-- What a key, or a user with all of their keys, may use in a period.
CREATE TABLE quotas (
    -- The id of the key or of the user.
    owner      BYTEA PRIMARY KEY NOT NULL CHECK (length(owner) = 16),
    owner_kind TEXT NOT NULL CHECK (owner_kind = 'key' OR owner_kind = 'user'),
    period     TEXT NOT NULL CHECK (period = 'day' OR period = 'week' OR period = 'month' OR period = 'none'),
    -- null: the settings' own.
    time_zone  TEXT,
    -- null: as many as one likes.
    tokens     BIGINT CHECK (tokens >= 0),
    -- In picodollars.
    cost       BIGINT CHECK (cost >= 0),
    updated_at BIGINT NOT NULL
);

-- What was granted on top of a quota, for a time. A row that was withdrawn stays.
CREATE TABLE quota_grants (
    id           BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    owner        BYTEA NOT NULL CHECK (length(owner) = 16),
    tokens       BIGINT CHECK (tokens > 0),
    cost         BIGINT CHECK (cost > 0),
    reason       TEXT,
    created_at   BIGINT NOT NULL,
    -- null: for good.
    expires_at   BIGINT,
    withdrawn_at BIGINT
);

CREATE INDEX quota_grants_by_owner ON quota_grants (owner, id);
