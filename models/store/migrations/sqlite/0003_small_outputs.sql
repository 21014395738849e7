-- An output that is small is kept in its row: a file would cost its job more than the job itself.
ALTER TABLE outputs ADD COLUMN content BLOB;
