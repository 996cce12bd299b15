-- Credentials of the admin plane beside the first admin key, which is in the settings or in `meta`.
CREATE TABLE admin_keys (
    id         BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    name       TEXT NOT NULL,
    -- SHA-256 of the secret.
    hash       BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- A JSON array of `admin`, `keys:write`, `read`.
    scopes     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

-- Secrets that a rotation replaced and that are still good for a while. A version that does not know them refuses them.
CREATE TABLE old_secrets (
    hash       BYTEA PRIMARY KEY NOT NULL CHECK (length(hash) = 32),
    key_id     BYTEA NOT NULL REFERENCES keys (id),
    expires_at BIGINT NOT NULL
);

CREATE INDEX old_secrets_by_key ON old_secrets (key_id);

-- Who changed what. Written in the transaction of the change, and never changed.
CREATE TABLE audit (
    id         BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    at         BIGINT NOT NULL,
    -- `admin` for the first admin key, the id of another, `local` for someone at the database file.
    actor      TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    address    TEXT,
    request_id TEXT,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    -- JSON without secrets; null: there was nothing, or is nothing any more.
    before     TEXT,
    after      TEXT
);

CREATE INDEX audit_by_target ON audit (target);

-- Answers to requests with an Idempotency-Key, for their repetition.
CREATE TABLE idempotency (
    -- SHA-256 of who asked and of the key they chose.
    id          BYTEA PRIMARY KEY NOT NULL CHECK (length(id) = 32),
    -- SHA-256 of what was asked.
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    -- Null: the answer is not known, because the request is under way or was cut off.
    status      INTEGER,
    -- Sealed: it may hold a secret, and only who asked has what opens it.
    answer      BYTEA,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
);

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

-- A user who was deleted stays for the books, under a name that frees their own.
ALTER TABLE users ADD COLUMN deleted_at BIGINT;
