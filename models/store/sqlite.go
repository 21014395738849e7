package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mattn/go-sqlite3"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

const (
	// busyTimeout is how long SQLite waits for another process (a backup, a command) in milliseconds.
	busyTimeout = 5000
	// readConns bounds concurrent reads; more wait for a free connection. Reads are CPU-bound and short.
	readConns = 8
	// cacheKiB is each connection's page cache.
	cacheKiB = 8192
	// preparedStatements are kept ready on each connection; the package runs about a hundred different ones.
	preparedStatements = 100
	// walLimit truncates the log after a checkpoint that followed a burst, in bytes.
	walLimit = 64 << 20
)

// synchronousFull is SQLite's number for synchronous=FULL.
const synchronousFull = 2

// dialect tells GORM how to speak to the pool.
func dialect(pool gorm.ConnPool) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: pool}) }

// prepareFile makes the database file and its write-ahead log, before any pool opens it. Its pages have SQLite's own size,
// 4096 bytes: a commit writes each page that it touched, and an ended job touches one of some fifteen tables and indexes.
func prepareFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// It holds webhook secrets and hashes. SQLite gives its companion files the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	raw, err := (&sqlite3.SQLiteDriver{}).Open(dsn(path, url.Values{}))
	if err != nil {
		return err
	}
	c := raw.(*sqlite3.SQLiteConn)
	if err = refuseForeign(c); err == nil {
		_, err = c.Exec("PRAGMA journal_mode=WAL", nil)
	}
	return errors.Join(err, c.Close())
}

// refuseForeign refuses a database that another program made, before anything in it is changed.
func refuseForeign(c *sqlite3.SQLiteConn) error {
	tables, err := first(c, `SELECT COUNT(*) FROM sqlite_master`)
	if err != nil || tables == int64(0) {
		return err
	}
	ours, err := first(c, `SELECT COUNT(*) FROM sqlite_master WHERE name = 'migrations'`)
	if err == nil && ours == int64(0) {
		err = errors.New("it was made by another program")
	}
	return err
}

// openSQLite opens the two pools on one file: a single connection that writes, and several that only read.
func openSQLite(path string) (writes, reads *sql.DB) {
	writes = sql.OpenDB(connector{dsn: dsn(path, url.Values{"_txlock": {"immediate"}})})
	writes.SetMaxOpenConns(1)
	writes.SetMaxIdleConns(1)
	reads = sql.OpenDB(connector{dsn: dsn(path, url.Values{"_query_only": {"true"}}), queryOnly: true})
	reads.SetMaxOpenConns(readConns)
	reads.SetMaxIdleConns(readConns)
	return writes, reads
}

// openCopying opens a connection that a backup may write its copy with.
func openCopying(path string) *sql.DB {
	pool := sql.OpenDB(connector{dsn: dsn(path, url.Values{})})
	pool.SetMaxOpenConns(1)
	return pool
}

func dsn(path string, more url.Values) string {
	more.Set("_busy_timeout", strconv.Itoa(busyTimeout))
	more.Set("_foreign_keys", "on")
	more.Set("_synchronous", "FULL")
	more.Set("_cache_size", strconv.Itoa(-cacheKiB))
	more.Set("_stmt_cache_size", strconv.Itoa(preparedStatements))
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + more.Encode()
}

// connector opens connections and refuses one that is not set up as asked: SQLite and its drivers ignore settings they
// do not understand.
type connector struct {
	dsn       string
	queryOnly bool
}

func (c connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	raw, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	conn := raw.(*sqlite3.SQLiteConn)
	if err := c.check(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return utcConn{conn}, nil
}

func (c connector) check(conn *sqlite3.SQLiteConn) error {
	if _, err := pragma(conn, fmt.Sprintf("journal_size_limit=%d", walLimit)); err != nil {
		return err
	}
	readOnly := int64(0)
	if c.queryOnly {
		readOnly = 1
	}
	for _, want := range []struct {
		name  string
		value any
	}{
		{"journal_mode", "wal"},
		{"foreign_keys", int64(1)},
		{"busy_timeout", int64(busyTimeout)},
		{"synchronous", int64(synchronousFull)},
		{"query_only", readOnly},
	} {
		got, err := pragma(conn, want.name)
		if err != nil {
			return err
		}
		if got != want.value {
			return fmt.Errorf("%s is %v and must be %v (is the file on a disk of this machine?)",
				want.name, got, want.value)
		}
	}
	return nil
}

// pragma runs one pragma and returns its first value, nil for none.
func pragma(conn *sqlite3.SQLiteConn, text string) (value any, err error) {
	return first(conn, "PRAGMA "+text)
}

// first runs one statement and returns the first value of its answer, nil for none.
func first(conn *sqlite3.SQLiteConn, statement string) (value any, err error) {
	rows, err := conn.Query(statement, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", statement, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	if len(row) == 0 {
		return nil, nil
	}
	if err := rows.Next(row); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %w", statement, err)
	}
	return row[0], nil
}

// utcConn writes every time in UTC with microseconds. The driver keeps times as text with their offset; in one zone
// that text sorts as the times do ("…05+00:00" < "…05.1+00:00" < "…05.12+00:00"), in two it does not.
type utcConn struct{ *sqlite3.SQLiteConn }

// CheckNamedValue is called by database/sql for every argument of every statement.
func (utcConn) CheckNamedValue(nv *driver.NamedValue) error {
	v, err := driver.DefaultParameterConverter.ConvertValue(nv.Value)
	if err != nil {
		return err
	}
	if t, ok := v.(time.Time); ok {
		v = stamp(t)
	}
	nv.Value = v
	return nil
}
