-- Programs that use the service, with what the user allowed them.
CREATE TABLE apps (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    origin TEXT UNIQUE,
    tokens_per_day INTEGER,
    created_at TEXT NOT NULL
) STRICT;

-- A key belongs to an app or, without one, to the owner. It goes with its app, so it can never turn into an owner's.
ALTER TABLE keys ADD COLUMN app TEXT REFERENCES apps (id) ON DELETE CASCADE;

CREATE TABLE grants (
    app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    permission TEXT NOT NULL,
    models TEXT NOT NULL,
    expires_at REAL,
    PRIMARY KEY (app, permission)
) STRICT;

CREATE TABLE app_usage (
    app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    day TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (app, day)
) STRICT;

-- What apps asked for. State: pending, approved (being done), done, failed, refused.
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    details TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_at TEXT NOT NULL,
    decided_at TEXT
) STRICT;

CREATE INDEX requests_by_state ON requests (state, created_at);
CREATE INDEX requests_by_app ON requests (app, created_at);

-- Conversations kept for apps; those of the owner have no app. Times are seconds since 1970, sizes bytes.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    app TEXT REFERENCES apps (id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    title TEXT NOT NULL,
    parameters TEXT NOT NULL,
    started_at REAL NOT NULL,
    last_used REAL NOT NULL,
    size INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_by_app ON sessions (app, last_used);

CREATE TABLE turns (
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (session, number)
) STRICT;
