-- The ledger, its roll-ups, users and keys.
--
-- Times are microseconds since the Unix epoch, money is picodollars (1e-12 USD), ids are the 16 bytes of a UUIDv7,
-- truth values are 0 and 1. Prompts and answers are never stored.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Raised with every change to `keys`, so that a running gateway sees what another process did.
INSERT INTO meta (name, value) VALUES ('keys_version', '1');

CREATE TABLE users (
    id         BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id          BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    name        TEXT NOT NULL,
    user_id     BLOB REFERENCES users (id),
    -- SHA-256 of the secret; the secret itself is shown once and kept nowhere.
    hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- The public beginning of a generated secret; empty when the secret was chosen.
    prefix      TEXT NOT NULL,
    -- A JSON array of model names; null: every model.
    models      TEXT,
    -- null: the settings' default; -1: unlimited.
    rpm         INTEGER CHECK (rpm >= -1),
    concurrency INTEGER CHECK (concurrency >= -1),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_user ON keys (user_id);
CREATE INDEX keys_by_name ON keys (name);

-- One row per admitted request. While it is open, the token columns hold what recovery would charge: the estimated
-- input and the output delivered so far. The last attempt is inline, so that the usual request is one insert.
CREATE TABLE requests (
    id                  BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    -- The x-request-id, where a client chose one (so it is not unique); null: it is the id, written `req_…`.
    request_id          TEXT,
    key_id              BLOB NOT NULL,
    user_id             BLOB,
    endpoint            TEXT NOT NULL,
    model               TEXT NOT NULL,
    stream              INTEGER NOT NULL,
    started_at          INTEGER NOT NULL,
    -- Not `IN (…)`, here and below: SQLite builds a temporary table for that, for every row.
    state               TEXT NOT NULL CHECK (
        state = 'settled' OR state = 'open' OR state = 'cancelled' OR state = 'failed' OR state = 'recovered'
    ),
    status              INTEGER,
    estimated           INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens INTEGER NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       INTEGER NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
    cost                INTEGER NOT NULL CHECK (cost >= 0),
    ttfb_us             INTEGER,
    duration_us         INTEGER,
    attempts            INTEGER NOT NULL CHECK (attempts >= 0),
    -- Empty while no attempt is known.
    resource            TEXT NOT NULL,
    deployment          TEXT NOT NULL,
    attempt_status      INTEGER,
    reason              TEXT,
    attempt_us          INTEGER,
    charge              TEXT CHECK (
        charge = 'exact' OR charge = 'estimated' OR charge = 'none' OR charge = 'ambiguous'
    ),
    upstream_id         TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_by_key ON requests (key_id);
-- Texts that clients chose are spread all over an index, and that costs as much as the row: only they are in it.
CREATE INDEX requests_by_request_id ON requests (request_id) WHERE request_id IS NOT NULL;
-- Small at all times, and untouched by a request that is written once, when it is settled.
CREATE INDEX requests_open ON requests (id) WHERE state = 'open';

-- The attempts of a request before its last one. The last one is here too only if its tokens differ from the
-- request's (Azure charged for something that the caller is not charged for).
CREATE TABLE attempts (
    request             BLOB NOT NULL REFERENCES requests (id),
    -- 0 is the first attempt.
    n                   INTEGER NOT NULL CHECK (n >= 0),
    resource            TEXT NOT NULL,
    deployment          TEXT NOT NULL,
    status              INTEGER,
    reason              TEXT NOT NULL,
    duration_us         INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens INTEGER NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       INTEGER NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
    charge              TEXT NOT NULL CHECK (
        charge = 'exact' OR charge = 'estimated' OR charge = 'none' OR charge = 'ambiguous'
    ),
    upstream_id         TEXT,
    PRIMARY KEY (request, n)
) STRICT, WITHOUT ROWID;

-- Closed requests by the hour they began in; kept by the writer in the transaction that closes them.
CREATE TABLE usage_hourly (
    hour                INTEGER NOT NULL,
    key_id              BLOB NOT NULL,
    -- Empty: the key has no user.
    user_id             BLOB NOT NULL,
    model               TEXT NOT NULL,
    resource            TEXT NOT NULL,
    requests            INTEGER NOT NULL CHECK (requests >= 0),
    input_tokens        INTEGER NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens INTEGER NOT NULL CHECK (cached_input_tokens >= 0),
    output_tokens       INTEGER NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
    cost                INTEGER NOT NULL CHECK (cost >= 0),
    errors              INTEGER NOT NULL CHECK (errors >= 0),
    cancelled           INTEGER NOT NULL CHECK (cancelled >= 0),
    estimated           INTEGER NOT NULL CHECK (estimated >= 0),
    PRIMARY KEY (hour, key_id, user_id, model, resource)
) STRICT, WITHOUT ROWID;
