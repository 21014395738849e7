-- What a job's acceptance said of its duration, so that a retry under the same idempotency key is told the same.
ALTER TABLE jobs ADD COLUMN estimated_seconds INTEGER NOT NULL DEFAULT 30;
