-- Long work. Jobs without an app are the owner's; `process` and `process_mark` name the process that runs one.
-- State: queued, running, cancelling (running, and asked to stop), done, failed, cancelled, interrupted.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    parameters TEXT NOT NULL,
    app TEXT REFERENCES apps (id) ON DELETE CASCADE,
    request TEXT UNIQUE REFERENCES requests (id) ON DELETE SET NULL,
    foreground INTEGER NOT NULL,
    state TEXT NOT NULL,
    step TEXT NOT NULL DEFAULT '',
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER,
    unit TEXT NOT NULL DEFAULT '',
    rate REAL,
    process INTEGER,
    process_mark REAL,
    runs INTEGER NOT NULL DEFAULT 0,
    kills INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    error TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    updated_at TEXT NOT NULL,
    ended_at TEXT
) STRICT;

CREATE INDEX jobs_by_state ON jobs (state, created_at);
CREATE INDEX jobs_by_app ON jobs (app, created_at);
