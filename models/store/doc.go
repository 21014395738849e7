// Package store keeps everything that outlives the server. It is the only place that talks to a database.
//
// Every exported method is one transaction; private functions take that transaction. Rows of its own never leave the
// package: callers give and get models.
//
// # Writing
//
// All writes go through one writer that commits together what arrives together (tx.go). A method answers after the commit
// that holds it, so an answered write survives kill -9 and loss of power (synchronous=FULL). The rows that every job
// writes have statements that are made once (table.go); all else is GORM's.
//
// # Reading
//
// Reads use a pool of query-only connections and never wait for the writer (WAL).
//
// # What is kept in step
//
// Every change of a job's state goes through record (jobs.go): it raises the revision, stores the event and moves the
// tenant's counters. Every final state goes through finish (finish.go), which adds usage and the webhook delivery.
//
// # Times
//
// UTC with microseconds. SQLite keeps them as text that sorts as the times do; see utcConn in sqlite.go.
//
// # Errors
//
// What callers may act on is a *models.Error: CodeNotFound, CodeConflict (a unique name is taken), CodeUnavailable
// (closed, or the database is locked by somebody else), CodeFull (no disk space), models.ErrFenced, models.ErrNotDurable.
// Anything else is internal.
package store
