package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"comfyfleet/models"
)

func TestEveryConnectionIsSetUpAsAsked(t *testing.T) {
	s := openTest(t)
	for range 2 {
		for pool, readOnly := range map[string]int{"reads": 1, "writes": 0} {
			var db interface {
				QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
			} = s.reads
			if pool == "writes" {
				db = s.writer.conn
			}
			for pragma, want := range map[string]any{"journal_mode": "wal", "synchronous": int64(2), "foreign_keys": int64(1),
				"busy_timeout": int64(5000), "query_only": int64(readOnly)} {
				var got any
				require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
				require.EqualValues(t, want, got, "%s of %s", pragma, pool)
			}
		}
		require.NoError(t, s.Close())
		s = openAt(t, s.path)
	}
}

func TestReadsCannotWrite(t *testing.T) {
	s := openTest(t)
	require.ErrorContains(t, s.read(t.Context()).Exec("DELETE FROM settings").Error, "readonly")
}

// writeDatabase makes a database without the package.
func writeDatabase(t *testing.T, path, statements string) {
	t.Helper()
	raw, err := (&sqlite3.SQLiteDriver{}).Open("file:" + path)
	require.NoError(t, err)
	_, err = raw.(*sqlite3.SQLiteConn).Exec(statements, nil)
	require.NoError(t, err)
	require.NoError(t, raw.Close())
}

func TestAForeignDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	writeDatabase(t, path, "CREATE TABLE x (y)")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = Open(t.Context(), "sqlite:"+path, Options{})
	require.ErrorContains(t, err, "made by another program")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// TestADatabaseWithLargePagesGoesOn opens one as earlier versions made it.
func TestADatabaseWithLargePagesGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	writeDatabase(t, path, "PRAGMA page_size=16384; CREATE TABLE migrations (id VARCHAR(255) PRIMARY KEY)")
	s := openAt(t, path)
	var size int
	require.NoError(t, s.writer.conn.QueryRowContext(t.Context(), "PRAGMA page_size").Scan(&size))
	require.Equal(t, 16384, size)
	addTenant(t, s, "t1")
	require.NoError(t, s.Close())
}

// TestAnOlderDatabaseKeepsItsOutputs upgrades one in which every output was a file.
func TestAnOlderDatabaseKeepsItsOutputs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	statements := "CREATE TABLE migrations (id VARCHAR(255) PRIMARY KEY);"
	for _, name := range []string{"0001_initial", "0002_estimate"} {
		text, err := migrations.ReadFile("migrations/sqlite/" + name + ".sql")
		require.NoError(t, err)
		statements += string(text) + fmt.Sprintf("; INSERT INTO migrations VALUES ('%s');", name)
	}
	newer := openTest(t)
	addTenant(t, newer, "t1")
	job := accept(t, newer)
	require.NoError(t, newer.Close())
	writeDatabase(t, path, statements+fmt.Sprintf(`ATTACH '%s' AS newer;
		INSERT INTO tenants SELECT * FROM newer.tenants; INSERT INTO tenant_load SELECT * FROM newer.tenant_load; INSERT INTO jobs SELECT * FROM newer.jobs;
		INSERT INTO assets VALUES ('o1', 't1', '%s', 'output', 5, 'a', 'image/png', '2026-11-01 00:00:00+00:00');
		INSERT INTO outputs VALUES ('o1', '%s', 't1', 0, '9', 'a.png', 'image', 'image/png', 5, 'a', 1, '2026-11-01 00:00:00+00:00')`,
		newer.path, job.ID, job.ID))

	s := openAt(t, path)
	outputs, err := s.Outputs(t.Context(), job.ID)
	require.NoError(t, err)
	require.Equal(t, []models.Output{{ID: "o1", JobID: job.ID, TenantID: "t1", NodeID: "9", Filename: "a.png", Type: "image",
		ContentType: "image/png", Size: 5, SHA256: "a", Temp: true, CreatedAt: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}}, outputs)
	got, err := s.Job(t.Context(), "t1", job.ID)
	require.NoError(t, err)
	require.Equal(t, job, got)
	require.NoError(t, s.Close())
}

func TestADatabaseOfANewerVersionIsRefused(t *testing.T) {
	s := openTest(t)
	require.NoError(t, s.writer.run(t.Context(), func(tx *gorm.DB) error {
		return tx.Exec("INSERT INTO migrations (id) VALUES ('9999_from_the_future')").Error
	}))
	require.NoError(t, s.Close())
	_, err := Open(t.Context(), "sqlite:"+s.path, Options{})
	require.ErrorContains(t, err, "a newer comfyfleet")
}

func TestAnUnknownAddressIsRefusedWithoutItsPassword(t *testing.T) {
	for _, url := range []string{"", "sqlite:", "postgres://u:secret@db/x", "/var/lib/x.db"} {
		_, err := Open(t.Context(), url, Options{})
		require.ErrorContains(t, err, "sqlite:/path", url)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestOddPathsAreOpenedAsTheyAre(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c=%20#d")
	path := filepath.Join(dir, "x.db")
	s := openAt(t, path)
	require.NoError(t, s.SetSetting(t.Context(), "a", "b"))
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
	}
}

func TestStoredTimesSortAsTimesDo(t *testing.T) {
	s := openTest(t)
	dice := rand.New(rand.NewPCG(1, 2))
	base := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	var want []time.Time
	for range 300 {
		// Round fractions of every length, around a new year, in all zones.
		unit := []time.Duration{1, 1000, 10_000, 100_000_000, time.Second}[dice.IntN(5)]
		zone := time.FixedZone("", (dice.IntN(27)-12)*3600+dice.IntN(2)*1800)
		want = append(want, base.Add(unit*time.Duration(dice.IntN(2000))).In(zone))
	}
	require.NoError(t, s.writer.run(t.Context(), func(tx *gorm.DB) error {
		if err := tx.Exec("CREATE TABLE moments (at DATETIME, maybe DATETIME)").Error; err != nil {
			return err
		}
		for i := range want {
			if err := tx.Exec("INSERT INTO moments VALUES (?, ?)", want[i], &want[i]).Error; err != nil {
				return err
			}
		}
		return nil
	}))
	for i := range want {
		want[i] = stamp(want[i])
	}
	slices.SortFunc(want, time.Time.Compare)
	for _, column := range []string{"at", "maybe"} {
		var got []time.Time
		require.NoError(t, s.read(t.Context()).Table("moments").Order(column).Pluck(column, &got).Error)
		require.Equal(t, want, got)
		var older int
		require.NoError(t, s.read(t.Context()).Raw(fmt.Sprintf("SELECT COUNT(*) FROM moments WHERE %s < ?", column),
			want[100].In(time.FixedZone("", 5*3600))).Scan(&older).Error)
		require.Equal(t, slices.Index(want, want[100]), older)
	}
}

// TestQueriesUseTheirIndexes looks at the plan of every statement that the methods which must stay fast run.
func TestQueriesUseTheirIndexes(t *testing.T) {
	s := openTest(t)
	addTenant(t, s, "t1")
	for range 3 {
		accept(t, s)
	}
	ctx := t.Context()
	now := time.Now()
	var seen []string
	s.reader.Statement.ConnPool = heard{s.reads, s.reads, func(statement string, args []any) {
		seen = append(seen, s.reader.Dialector.Explain(statement, args...))
	}}
	job := accept(t, s)
	for name, c := range map[string]struct {
		run   func() error
		index string
	}{
		"job": {func() error { _, err := s.Job(ctx, "t1", job.ID); return err }, "sqlite_autoindex_jobs_1"},
		"all": {func() error { _, err := s.Jobs(ctx, models.JobFilter{}, models.Page{Before: 9}); return err }, "INTEGER PRIMARY KEY"},
		"by tenant": {func() error {
			_, err := s.Jobs(ctx, models.JobFilter{TenantID: "t1"}, models.Page{Before: 9})
			return err
		}, "jobs_tenant "},
		"by state": {func() error { _, err := s.Jobs(ctx, states("", models.JobFailed), models.Page{}); return err }, "jobs_state "},
		"by both": {func() error {
			_, err := s.Jobs(ctx, states("t1", models.JobFailed, models.JobExpired), models.Page{Before: 9})
			return err
		}, "jobs_tenant_state "},
		"newer": {func() error {
			_, err := s.Jobs(ctx, states("t1", models.JobRunning), models.Page{After: 9})
			return err
		}, "jobs_tenant_state "},
		"counts":         {func() error { _, err := s.Counts(ctx, models.JobFilter{TenantID: "t1"}); return err }, "jobs_tenant_state "},
		"all counts":     {func() error { _, err := s.Counts(ctx, models.JobFilter{}); return err }, "jobs_state "},
		"queue":          {func() error { _, err := s.Queue(ctx, 10); return err }, "jobs_waiting"},
		"position":       {func() error { _, err := s.QueuePosition(ctx, job); return err }, "jobs_waiting"},
		"oldest":         {func() error { _, _, err := s.OldestWaiting(ctx); return err }, "jobs_state "},
		"oldest queued":  {func() error { _, _, err := s.OldestQueued(ctx); return err }, "jobs_state "},
		"expiry":         {func() error { _, err := s.ExpireJobs(ctx, now, 10); return err }, "jobs_deadline"},
		"sweep":          {func() error { _, _, err := s.SweepJobs(ctx, now, 10); return err }, "jobs_finished"},
		"durations":      {func() error { _, err := s.RecentDurations(ctx, "wan", 10); return err }, "jobs_durations"},
		"open":           {func() error { _, err := s.OpenAttempts(ctx); return err }, "sqlite_autoindex_attempts_1"},
		"due":            {func() error { _, err := s.DueDeliveries(ctx, now, 10); return err }, "deliveries_due"},
		"next due":       {func() error { _, _, err := s.NextDelivery(ctx); return err }, "deliveries_due"},
		"deliveries":     {func() error { _, err := s.Deliveries(ctx, "t1", "", 10); return err }, "deliveries_tenant"},
		"outputs":        {func() error { _, err := s.Outputs(ctx, job.ID); return err }, "sqlite_autoindex_outputs_2"},
		"attempts":       {func() error { _, err := s.Attempts(ctx, job.ID); return err }, "sqlite_autoindex_attempts_2"},
		"events":         {func() error { _, err := s.Events(ctx, job.ID, 1, 10); return err }, "PRIMARY KEY"},
		"idempotency":    {func() error { _, _, err := s.LookupIdempotency(ctx, "t1", "k"); return ignoreNotFound(err) }, "sqlite_autoindex_idempotency_keys_1"},
		"all deliveries": {func() error { _, err := s.Deliveries(ctx, "", "", 10); return err }, "deliveries_created"},
	} {
		seen = nil
		require.NoError(t, c.run(), name)
		require.NotEmpty(t, seen, name)
		plans := ""
		for _, statement := range slices.Clone(seen) {
			plan := planOf(t, s, statement)
			plans += plan
			require.NotContains(t, plan, "TEMP B-TREE", "%s: %s", name, statement)
			require.NotRegexp(t, `SCAN jobs\n`, plan, "%s: %s", name, statement)
		}
		require.Contains(t, plans, c.index, "%s: %s", name, plans)
	}
}

// heard is a pool, or a transaction of it, whose queries are told.
type heard struct {
	gorm.ConnPool
	pool *sql.DB
	tell func(statement string, args []any)
}

func (h heard) QueryContext(ctx context.Context, statement string, args ...any) (*sql.Rows, error) {
	h.tell(statement, args)
	return h.ConnPool.QueryContext(ctx, statement, args...)
}

func (h heard) QueryRowContext(ctx context.Context, statement string, args ...any) *sql.Row {
	h.tell(statement, args)
	return h.ConnPool.QueryRowContext(ctx, statement, args...)
}

func (h heard) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	tx, err := h.pool.BeginTx(ctx, opts)
	return heard{tx, h.pool, h.tell}, err
}

func (h heard) Commit() error   { return h.ConnPool.(*sql.Tx).Commit() }
func (h heard) Rollback() error { return h.ConnPool.(*sql.Tx).Rollback() }

func planOf(t *testing.T, s *Store, statement string) (plan string) {
	t.Helper()
	rows, err := s.reads.Query("EXPLAIN QUERY PLAN " + statement)
	require.NoError(t, err, statement)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan += detail + "\n"
	}
	require.NoError(t, rows.Err())
	return plan
}

func states(tenantID string, list ...models.JobState) models.JobFilter {
	return models.JobFilter{TenantID: tenantID, States: list}
}

func ignoreNotFound(err error) error {
	if models.ErrorCode(err) == models.CodeNotFound {
		return nil
	}
	return err
}
