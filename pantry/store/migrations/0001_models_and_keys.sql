-- Blobs by digest; `stamp` is the file's identity when its digest was last checked.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    checked_at TEXT NOT NULL
) STRICT;

CREATE TABLE models (
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    format TEXT NOT NULL,
    source TEXT NOT NULL,
    facts TEXT NOT NULL,
    added_at TEXT NOT NULL,
    PRIMARY KEY (name, tag)
) STRICT;

CREATE INDEX models_by_digest ON models (digest);

-- Keys are stored as SHA-256 of the key; a key has 256 random bits, so a slow hash would add nothing.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT;

-- What was measured on this machine, newest counts; `subject` names what (engine and model digest).
CREATE TABLE measurements (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    value REAL NOT NULL,
    unit TEXT NOT NULL,
    details TEXT NOT NULL,
    measured_at TEXT NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT;
