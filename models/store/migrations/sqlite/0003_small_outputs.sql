-- An output that is small is kept in its row: a file would cost its job more than the job itself. Such a one has no asset.
CREATE TABLE new_outputs (
    id           TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tenant_id    TEXT NOT NULL,
    "index"      INTEGER NOT NULL,
    node_id      TEXT NOT NULL,
    filename     TEXT NOT NULL,
    type         TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size         INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    temp         BOOLEAN NOT NULL,
    created_at   DATETIME NOT NULL,
    content      BLOB,
    UNIQUE (job_id, "index")
);
INSERT INTO new_outputs (id, job_id, tenant_id, "index", node_id, filename, type, content_type, size, sha256, temp, created_at)
    SELECT id, job_id, tenant_id, "index", node_id, filename, type, content_type, size, sha256, temp, created_at FROM outputs;
DROP TABLE outputs;
ALTER TABLE new_outputs RENAME TO outputs;

-- Open attempts are those that their jobs name. Each index that an attempt or a job is in costs a page of its commits.
DROP INDEX attempts_open;
