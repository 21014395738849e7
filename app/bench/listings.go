package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

const (
	fewJobs  = 1_000
	manyJobs = 1_000_000
	// otherTenants share one half of the jobs; the tenant that asks has the other.
	otherTenants = 19
	listReads    = 200
)

// listings reads pages of fifty, one after the other, from a service that knows a thousand jobs and from one that knows a
// million.
func listings(ctx context.Context, l *lab) ([]figure, error) {
	paths := []struct{ name, query string }{
		{"list 50 of a million jobs", "/v1/jobs?limit=50"},
		{"list 50 completed of a million jobs", "/v1/jobs?limit=50&status=completed"},
	}
	var read [2][]time.Duration
	var built time.Duration
	for i, jobs := range []int{fewJobs, manyJobs} {
		dir := l.file(fmt.Sprint("data", jobs))
		began := time.Now()
		if err := fill(ctx, dir, jobs); err != nil {
			return nil, fmt.Errorf("build %d jobs: %w", jobs, err)
		}
		built = time.Since(began)
		s, err := l.serve(ctx, dir, "COMFYFLEET_WORKERS=sim:1")
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			median, err := s.listTime(p.query)
			if err != nil {
				return nil, err
			}
			read[i] = append(read[i], median)
		}
		if err := s.stop(); err != nil {
			return nil, err
		}
	}
	var figures []figure
	for i, p := range paths {
		few, many := read[0][i], read[1][i]
		figures = append(figures, figure{name: p.name, value: "median " + ms(many), against: ms(few) + " of a thousand",
			ratio: many.Seconds() / few.Seconds(), aim: "≤ 2× + 1 ms", met: many <= 2*few+time.Millisecond})
	}
	return append(figures, figure{name: "a million jobs were made in", value: built.Round(100 * time.Millisecond).String()}), nil
}

// listTime is the median time of a page, walking through the pages and from the beginning again.
func (s *service) listTime(query string) (time.Duration, error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.close()
	var took times
	next := ""
	for range listReads {
		path := query
		if next != "" {
			path += "&cursor=" + next
		}
		began := time.Now()
		raw, err := c.get(path)
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
		var page struct {
			Jobs []struct{}
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return 0, err
		}
		if len(page.Jobs) != 50 && page.Next != "" {
			return 0, fmt.Errorf("a page has %d jobs", len(page.Jobs))
		}
		next = page.Next
	}
	return took.at(0.5), nil
}

// fill makes the database of a service that has run so many jobs, in one statement.
func fill(ctx context.Context, dir string, jobs int) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ids, err := fillTenants(ctx, dir)
	if err != nil {
		return err
	}
	db, err := openDatabase(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "PRAGMA synchronous=OFF"); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT name, type, "notnull" FROM pragma_table_info('jobs')`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var columns, values []string
	for rows.Next() {
		var name, kind string
		var needed bool
		if err := rows.Scan(&name, &kind, &needed); err != nil {
			return err
		}
		columns, values = append(columns, name), append(values, fillValue(name, kind, needed, ids))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf(`WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < %d)
		INSERT INTO jobs (%s) SELECT %s FROM r`, jobs, strings.Join(columns, ", "), strings.Join(values, ", ")))
	return err
}

// fillTenants makes the tenants and answers their ids, the default one first.
func fillTenants(ctx context.Context, dir string) (ids []string, err error) {
	st, err := store.Open(ctx, "sqlite:"+dir+"/comfyfleet.db", store.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for i := range 1 + otherTenants {
		t := models.Tenant{ID: uuid.NewString(), Name: fmt.Sprint("tenant-", i), CreatedAt: time.Now(), Weight: 1}
		if i == 0 {
			t.Name = models.DefaultTenant
		}
		if err := st.CreateTenant(ctx, t); err != nil {
			return nil, err
		}
		ids = append(ids, t.ID)
	}
	return ids, nil
}

// fillValue is the SQL of one column of the nth job: all have ended, one in fifty badly.
func fillValue(name, kind string, needed bool, tenants []string) string {
	at := "'" + time.Now().UTC().Format("2006-01-02 15:04:05.000000+00:00") + "'"
	switch name {
	case "seq":
		return "n"
	case "id":
		return "lower(printf('%08x-0000-4000-8000-', n) || hex(randomblob(6)))"
	case "tenant_id":
		var others strings.Builder
		for i, id := range tenants[1:] {
			fmt.Fprintf(&others, " WHEN %d THEN '%s'", i, id)
		}
		return fmt.Sprintf("CASE WHEN n %% 2 = 0 THEN '%s' ELSE CASE n %% %d%s END END", tenants[0], otherTenants, others.String())
	case "state":
		return "CASE WHEN n % 50 = 1 THEN 'failed' ELSE 'succeeded' END"
	case "origin":
		return "'api'"
	case "revision", "attempts":
		return "1"
	case "percent":
		return "100"
	case "created_at", "started_at", "finished_at":
		return at
	}
	switch {
	case !needed:
		return "NULL"
	case kind == "TEXT":
		return "''"
	}
	return "0"
}
