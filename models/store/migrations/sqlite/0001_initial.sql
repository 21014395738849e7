-- Times are DATETIME: text in UTC with microseconds. Flags are BOOLEAN (0 or 1). Text that has no value is ''.

CREATE TABLE tenants (
    id                      TEXT PRIMARY KEY,
    name                    TEXT NOT NULL UNIQUE,
    created_at              DATETIME NOT NULL,
    suspended_at            DATETIME,
    weight                  INTEGER NOT NULL,
    max_running             INTEGER NOT NULL,
    max_queued              INTEGER NOT NULL,
    rate_submit             INTEGER NOT NULL,
    rate_status             INTEGER NOT NULL,
    rate_manage             INTEGER NOT NULL,
    webhook_secret          TEXT NOT NULL,
    webhook_secret_previous TEXT NOT NULL,
    webhook_secret_until    DATETIME,
    webhooks_disabled_at    DATETIME,
    library_only            BOOLEAN NOT NULL,
    allow_classes           TEXT NOT NULL,
    deny_classes            TEXT NOT NULL
);

-- What each tenant has in the queue (phase waiting) and in the fleet (staging, staged, running). Kept by the
-- transactions that move jobs, so that caps need no counting.
CREATE TABLE tenant_load (
    tenant_id TEXT PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    queued    INTEGER NOT NULL,
    claimed   INTEGER NOT NULL
);

CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    prefix       TEXT NOT NULL,
    hash         TEXT NOT NULL UNIQUE,
    scopes       TEXT NOT NULL,
    created_at   DATETIME NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   DATETIME,
    revoked_at   DATETIME,
    last_used_at DATETIME,
    last_used_ip TEXT NOT NULL
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id, created_at);

-- The long texts come last: a row's first columns are read without following its overflow pages.
CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,
    tenant_id        TEXT NOT NULL REFERENCES tenants (id),
    key_id           TEXT NOT NULL,
    origin           TEXT NOT NULL,
    state            TEXT NOT NULL,
    phase            TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    workflow_slug    TEXT NOT NULL,
    workflow_version INTEGER NOT NULL,
    created_at       DATETIME NOT NULL,
    started_at       DATETIME,
    finished_at      DATETIME,
    deadline_at      DATETIME,
    attempt_id       TEXT NOT NULL,
    prompt_id        TEXT NOT NULL,
    worker           TEXT NOT NULL,
    attempts         INTEGER NOT NULL,
    faults           INTEGER NOT NULL,
    ooms             INTEGER NOT NULL,
    simulated        BOOLEAN NOT NULL,
    percent          INTEGER NOT NULL,
    value            INTEGER NOT NULL,
    max              INTEGER NOT NULL,
    nodes_done       INTEGER NOT NULL,
    nodes_total      INTEGER NOT NULL,
    current_node     TEXT NOT NULL,
    current_class    TEXT NOT NULL,
    last_event_at    DATETIME,
    queue_ms         INTEGER NOT NULL,
    load_ms          INTEGER NOT NULL,
    exec_ms          INTEGER NOT NULL,
    collect_ms       INTEGER NOT NULL,
    gpu_ms           INTEGER NOT NULL,
    revision         INTEGER NOT NULL,
    waiting_reason   TEXT NOT NULL,
    error_code       TEXT NOT NULL,
    webhook_url      TEXT NOT NULL,
    error            TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    node_errors      TEXT NOT NULL,
    log_tail         TEXT NOT NULL
);
-- Lists walk one of the first three, newest first, and stop at their limit.
CREATE INDEX jobs_tenant ON jobs (tenant_id, seq);
CREATE INDEX jobs_tenant_state ON jobs (tenant_id, state, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
-- The head of a tenant's queue.
CREATE INDEX jobs_waiting ON jobs (tenant_id, priority DESC, seq) WHERE state = 'queued' AND phase = 'waiting';
-- Led by state although that is always 'queued': else SQLite prefers jobs_state and sorts the whole queue.
CREATE INDEX jobs_deadline ON jobs (state, deadline_at) WHERE state = 'queued' AND deadline_at IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
-- How long recent jobs of a workflow took.
CREATE INDEX jobs_durations ON jobs (workflow_slug, seq) WHERE state = 'succeeded';

-- Keyed by the job's seq, so that rows land side by side in the order of acceptance. Blobs are zstd.
CREATE TABLE job_payloads (
    job_seq        INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    graph          BLOB,
    inputs         BLOB,
    extra_png_info BLOB
);

CREATE TABLE events (
    job_seq    INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    rev        INTEGER NOT NULL,
    at         DATETIME NOT NULL,
    state      TEXT NOT NULL,
    phase      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    worker     TEXT NOT NULL,
    percent    INTEGER NOT NULL,
    message    TEXT NOT NULL,
    PRIMARY KEY (job_seq, rev)
) WITHOUT ROWID;

CREATE TABLE attempts (
    id             TEXT PRIMARY KEY,
    job_id         TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    tenant_id      TEXT NOT NULL,
    worker         TEXT NOT NULL,
    number         INTEGER NOT NULL,
    state          TEXT NOT NULL,
    placed_because TEXT NOT NULL,
    created_at     DATETIME NOT NULL,
    staged_at      DATETIME,
    started_at     DATETIME,
    ended_at       DATETIME,
    cause          TEXT NOT NULL,
    detail         TEXT NOT NULL,
    pid            INTEGER NOT NULL,
    load_ms        INTEGER NOT NULL,
    exec_ms        INTEGER NOT NULL,
    collect_ms     INTEGER NOT NULL,
    log_tail       TEXT NOT NULL,
    node_times     TEXT NOT NULL,
    UNIQUE (job_id, number)
);
CREATE INDEX attempts_open ON attempts (created_at, id) WHERE ended_at IS NULL;

-- An asset may outlive the job it came with: another job may use it as its medium.
CREATE TABLE assets (
    id           TEXT PRIMARY KEY,
    tenant_id    TEXT NOT NULL,
    job_id       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    content_type TEXT NOT NULL,
    created_at   DATETIME NOT NULL
);
CREATE INDEX assets_job ON assets (job_id);

CREATE TABLE media_refs (
    job_id       TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position     INTEGER NOT NULL,
    name         TEXT NOT NULL,
    asset_id     TEXT NOT NULL REFERENCES assets (id),
    size         INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    content_type TEXT NOT NULL,
    PRIMARY KEY (job_id, position)
);
CREATE INDEX media_refs_asset ON media_refs (asset_id);

CREATE TABLE outputs (
    id           TEXT PRIMARY KEY REFERENCES assets (id),
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
    UNIQUE (job_id, "index")
);

CREATE TABLE idempotency_keys (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id      TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    until       DATETIME NOT NULL,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_until ON idempotency_keys (until);
CREATE INDEX idempotency_keys_job ON idempotency_keys (job_id);

CREATE TABLE deliveries (
    id         TEXT PRIMARY KEY,
    tenant_id  TEXT NOT NULL,
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    event      TEXT NOT NULL,
    url        TEXT NOT NULL,
    payload    BLOB NOT NULL,
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    DATETIME,
    created_at DATETIME NOT NULL,
    done_at    DATETIME
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';
CREATE INDEX deliveries_job ON deliveries (job_id);
CREATE INDEX deliveries_tenant ON deliveries (tenant_id, created_at, id);
CREATE INDEX deliveries_created ON deliveries (created_at, id);

CREATE TABLE delivery_attempts (
    delivery_id TEXT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    at          DATETIME NOT NULL,
    status      INTEGER NOT NULL,
    latency_ms  INTEGER NOT NULL,
    error       TEXT NOT NULL,
    answer      BLOB,
    PRIMARY KEY (delivery_id, number)
);

-- Outlives the jobs it counts.
CREATE TABLE usages (
    tenant_id     TEXT NOT NULL,
    day           TEXT NOT NULL,
    workflow_slug TEXT NOT NULL,
    jobs          INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    gpu_ms        INTEGER NOT NULL,
    output_bytes  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, day, workflow_slug)
);

CREATE TABLE operators (
    id              TEXT PRIMARY KEY,
    email           TEXT NOT NULL UNIQUE,
    password_hash   TEXT NOT NULL,
    role            TEXT NOT NULL,
    created_at      DATETIME NOT NULL,
    last_sign_in_at DATETIME,
    disabled_at     DATETIME
);

CREATE TABLE sessions (
    hash        TEXT PRIMARY KEY,
    operator_id TEXT NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    csrf        TEXT NOT NULL,
    created_at  DATETIME NOT NULL,
    seen_at     DATETIME NOT NULL,
    expires_at  DATETIME NOT NULL,
    ip          TEXT NOT NULL,
    user_agent  TEXT NOT NULL
);
CREATE INDEX sessions_operator ON sessions (operator_id);
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE TABLE audit_entries (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     DATETIME NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    ip     TEXT NOT NULL
);

CREATE TABLE workflows (
    slug        TEXT PRIMARY KEY,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    tenant_id   TEXT NOT NULL,
    bundled     BOOLEAN NOT NULL,
    created_at  DATETIME NOT NULL,
    updated_at  DATETIME NOT NULL
);

-- graph, editor and params are zstd.
CREATE TABLE workflow_versions (
    slug       TEXT NOT NULL REFERENCES workflows (slug) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    created_by TEXT NOT NULL,
    graph      BLOB NOT NULL,
    editor     BLOB,
    params     BLOB,
    PRIMARY KEY (slug, version)
);

CREATE TABLE workflow_aliases (
    slug     TEXT NOT NULL,
    alias    TEXT NOT NULL,
    version  INTEGER NOT NULL,
    moved_at DATETIME NOT NULL,
    PRIMARY KEY (slug, alias),
    FOREIGN KEY (slug, version) REFERENCES workflow_versions (slug, version) ON DELETE CASCADE
);

-- node_defs is zstd.
CREATE TABLE worker_records (
    name         TEXT PRIMARY KEY,
    disabled     BOOLEAN NOT NULL,
    draining     BOOLEAN NOT NULL,
    quarantine   TEXT NOT NULL,
    node_defs    BLOB,
    node_defs_at DATETIME,
    updated_at   DATETIME NOT NULL
);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
