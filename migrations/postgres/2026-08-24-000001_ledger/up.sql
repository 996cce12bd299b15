-- What gateways share: users, keys, and the projection of every gateway's ledger.
--
-- Times are microseconds since the Unix epoch, money is picodollars (1e-12 USD), ids are the 16 bytes of a UUIDv7.
-- Prompts and answers are never stored.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- Raised with every change to `keys`, so that every gateway sees what another did.
INSERT INTO meta (name, value) VALUES ('keys_version', '1');

CREATE TABLE users (
    id         BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    name       TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE keys (
    id          BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    name        TEXT NOT NULL,
    user_id     BYTEA REFERENCES users (id),
    -- SHA-256 of the secret; the secret itself is shown once and kept nowhere.
    hash        BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- The public beginning of a generated secret; empty when the secret was chosen.
    prefix      TEXT NOT NULL,
    -- A JSON array of model names; null: every model.
    models      TEXT,
    -- null: the settings' default; -1: unlimited.
    rpm         BIGINT CHECK (rpm >= -1),
    concurrency BIGINT CHECK (concurrency >= -1),
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT,
    revoked_at  BIGINT
);

CREATE INDEX keys_by_user ON keys (user_id);
CREATE INDEX keys_by_name ON keys (name);

-- One row per request that ended. Open ones are in the journal of the gateway that admitted them.
CREATE TABLE requests (
    id                  BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    -- The x-request-id, where a client chose one (so it is not unique); null: it is the id, written `req_…`.
    request_id          TEXT,
    key_id              BYTEA NOT NULL,
    user_id             BYTEA,
    endpoint            TEXT NOT NULL,
    model               TEXT NOT NULL,
    stream              BOOLEAN NOT NULL,
    started_at          BIGINT NOT NULL,
    state               TEXT NOT NULL CHECK (state IN ('settled', 'open', 'cancelled', 'failed', 'recovered')),
    status              INTEGER,
    estimated           BOOLEAN NOT NULL,
    input_tokens        BIGINT NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens BIGINT NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       BIGINT NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    BIGINT NOT NULL CHECK (reasoning_tokens >= 0),
    cost                BIGINT NOT NULL CHECK (cost >= 0),
    ttfb_us             BIGINT,
    duration_us         BIGINT,
    attempts            INTEGER NOT NULL CHECK (attempts >= 0),
    -- Empty while no attempt is known.
    resource            TEXT NOT NULL,
    deployment          TEXT NOT NULL,
    attempt_status      INTEGER,
    reason              TEXT,
    attempt_us          BIGINT,
    charge              TEXT CHECK (charge IN ('exact', 'estimated', 'none', 'ambiguous')),
    upstream_id         TEXT
);

CREATE INDEX requests_by_key ON requests (key_id, id);
CREATE INDEX requests_by_request_id ON requests (request_id) WHERE request_id IS NOT NULL;

-- The attempts of a request before its last one. The last one is here too only if its tokens differ from the
-- request's (Azure charged for something that the caller is not charged for).
CREATE TABLE attempts (
    request             BYTEA NOT NULL REFERENCES requests (id),
    -- 0 is the first attempt.
    n                   INTEGER NOT NULL CHECK (n >= 0),
    resource            TEXT NOT NULL,
    deployment          TEXT NOT NULL,
    status              INTEGER,
    reason              TEXT NOT NULL,
    duration_us         BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens BIGINT NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       BIGINT NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    BIGINT NOT NULL CHECK (reasoning_tokens >= 0),
    charge              TEXT NOT NULL CHECK (charge IN ('exact', 'estimated', 'none', 'ambiguous')),
    upstream_id         TEXT,
    PRIMARY KEY (request, n)
);

-- Closed requests by the hour they began in; kept in the transaction that files them here.
CREATE TABLE usage_hourly (
    hour                BIGINT NOT NULL,
    key_id              BYTEA NOT NULL,
    -- Empty: the key has no user.
    user_id             BYTEA NOT NULL,
    model               TEXT NOT NULL,
    resource            TEXT NOT NULL,
    requests            BIGINT NOT NULL CHECK (requests >= 0),
    input_tokens        BIGINT NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens BIGINT NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       BIGINT NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    BIGINT NOT NULL CHECK (reasoning_tokens >= 0),
    cost                BIGINT NOT NULL CHECK (cost >= 0),
    errors              BIGINT NOT NULL CHECK (errors >= 0),
    cancelled           BIGINT NOT NULL CHECK (cancelled >= 0),
    estimated           BIGINT NOT NULL CHECK (estimated >= 0),
    PRIMARY KEY (hour, key_id, user_id, model, resource)
);
