-- Who may log in to the admin's pages. Without password_hash: by OpenID Connect only, name is the verified address.
CREATE TABLE pipeline.admin_users (
    name          text        PRIMARY KEY CHECK (name = lower(name) AND length(name) BETWEEN 1 AND 200),
    role          text        NOT NULL CHECK (role IN ('admin', 'viewer')),
    password_hash text,                             -- argon2id
    failures      integer     NOT NULL DEFAULT 0,   -- wrong passwords since the last right one
    locked_until  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- The browser has the token, here is its digest: whoever reads this table can't take a session over.
CREATE TABLE pipeline.admin_sessions (
    token_sha256 bytea       PRIMARY KEY,
    user_name    text        REFERENCES pipeline.admin_users ON DELETE CASCADE,  -- NULL: logged in by the admin key
    key_sha256   bytea,      -- digest of that key: another key ends the session
    created_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((user_name IS NULL) = (key_sha256 IS NOT NULL))
);

-- Logins by OpenID Connect that wait for the provider's answer.
CREATE TABLE pipeline.admin_logins (
    state_sha256 bytea       PRIMARY KEY,
    verifier     text        NOT NULL,
    nonce        text        NOT NULL,
    next_path    text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX admin_logins_age ON pipeline.admin_logins (created_at);  -- they are swept
