-- A model is a set of files: `digest` names the set, so it is a blob only where the set is one file.
CREATE TABLE models_of_parts (
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    format TEXT NOT NULL,
    source TEXT NOT NULL,
    facts TEXT NOT NULL,
    added_at TEXT NOT NULL,
    package INTEGER REFERENCES packages (id) ON DELETE SET NULL,
    PRIMARY KEY (name, tag)
) STRICT;

INSERT INTO models_of_parts SELECT name, tag, digest, format, source, facts, added_at, package FROM models;

DROP TABLE models;

ALTER TABLE models_of_parts RENAME TO models;

CREATE INDEX models_by_digest ON models (digest);

CREATE INDEX models_by_package ON models (package);

CREATE TABLE model_parts (
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    path TEXT NOT NULL,
    role TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (name, tag, path),
    FOREIGN KEY (name, tag) REFERENCES models (name, tag) ON DELETE CASCADE
) STRICT;

CREATE INDEX model_parts_by_digest ON model_parts (digest);

-- Until now every model was one file: its weights, or what stands for them. One of a package keeps its path there.
INSERT INTO model_parts SELECT name, tag, coalesce(
    (SELECT min(path) FROM package_files WHERE package = models.package AND package_files.digest = models.digest),
    'model.' || format), 'weights', digest FROM models;
