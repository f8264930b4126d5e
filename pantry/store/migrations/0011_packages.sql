-- Installed flatpacks and other sets of files that came together. `archive` is the digest of the .fpk.
CREATE TABLE packages (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    summary TEXT NOT NULL,
    contents TEXT NOT NULL,
    archive TEXT,
    source TEXT NOT NULL,
    signer TEXT,
    manifest TEXT NOT NULL,
    installed_at TEXT NOT NULL,
    UNIQUE (name, version)
) STRICT;

CREATE TABLE package_files (
    package INTEGER NOT NULL REFERENCES packages (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    executable INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (package, path)
) STRICT;

CREATE INDEX package_files_by_digest ON package_files (digest);

-- The package a model was installed from, if any.
ALTER TABLE models ADD COLUMN package INTEGER REFERENCES packages (id) ON DELETE SET NULL;

CREATE INDEX models_by_package ON models (package);

-- What the repositories offered when they were last looked at, for search and for use without a network.
CREATE TABLE repository_states (
    name TEXT PRIMARY KEY,
    root_version INTEGER NOT NULL,
    version INTEGER NOT NULL,
    expires TEXT NOT NULL,
    refreshed_at TEXT NOT NULL
) STRICT;

CREATE TABLE repository_entries (
    id INTEGER PRIMARY KEY,
    repository TEXT NOT NULL REFERENCES repository_states (name) ON DELETE CASCADE,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    length INTEGER NOT NULL,
    digest TEXT NOT NULL,
    memory INTEGER,
    licence TEXT,
    tags TEXT NOT NULL,
    yanked INTEGER NOT NULL,
    facts TEXT NOT NULL,
    UNIQUE (repository, path)
) STRICT;

CREATE INDEX repository_entries_by_name ON repository_entries (name);

CREATE VIRTUAL TABLE repository_words USING fts5 (words, prefix = '2 3', tokenize = 'unicode61');
