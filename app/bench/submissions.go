package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// submitLoad is how many jobs so many clients submit together.
var submitLoad = []struct{ clients, jobs int }{{1, 400}, {8, 2500}, {64, 6000}}

const (
	submitAim = 1500 // a second, at 64 clients
	syncs     = 300
)

// submissions measures how fast jobs are accepted for good, over HTTP with a key, each on disk before its answer. The one
// worker is busy, so the queue fills. Against the store alone, called in this process, and against a disk that syncs for
// every job.
func submissions(ctx context.Context, l *lab) ([]figure, error) {
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1", "COMFYFLEET_SIM_ARGS=--test-nodes")
	if err != nil {
		return nil, err
	}
	g := largeGraphs()
	if err := s.occupy(g); err != nil {
		return nil, err
	}
	alone, err := acceptAlone(ctx, l, g)
	if err != nil {
		return nil, err
	}
	disk, err := syncRate(l)
	if err != nil {
		return nil, err
	}
	var figures []figure
	var last float64
	total := 1
	cpuBefore, err := s.cpu()
	if err != nil {
		return nil, err
	}
	for i, load := range submitLoad {
		rated, took, err := s.submitTogether(load.clients, load.jobs, g)
		if err != nil {
			return figures, err
		}
		total += load.jobs
		last = rated
		f := figure{name: fmt.Sprintf("durable submissions of 60 kB, %d clients", load.clients),
			value:   fmt.Sprintf("%s, p50 %s, p99 %s", rate(rated), ms(took.at(0.5)), ms(took.at(0.99))),
			against: "store alone " + rate(alone[i]), ratio: rated / alone[i]}
		if load.clients == 64 {
			f.aim, f.met = fmt.Sprintf("≥ %d/s", submitAim), rated >= submitAim
		}
		figures = append(figures, f)
	}
	cpuAfter, err := s.cpu()
	if err != nil {
		return figures, err
	}
	each := (cpuAfter - cpuBefore) / time.Duration(total-1)
	figures = append(figures,
		figure{name: "  processor time of the service for each", value: ms(each), against: fmt.Sprintf("%d cores take at most %s", runtime.NumCPU(), rate(float64(runtime.NumCPU())/each.Seconds()))},
		figure{name: "  the last against a disk sync for every job", value: rate(last), against: "synced writes of 16 kB " + rate(disk), ratio: last / disk})
	return figures, s.countJobs(total)
}

// occupy gives the service's worker a job that takes longer than the bench and waits until it runs, so that the queue
// stands and node definitions are known.
func (s *service) occupy(g *graphs) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.close()
	j, err := c.submit(g.request(nil))
	if err != nil {
		return err
	}
	return c.await(j.ID, "running")
}

// await polls a job until it has a status.
func (c *client) await(id, status string) error {
	deadline := time.Now().Add(startLimit)
	for {
		j, err := c.job(id)
		if err != nil || j.Status == status {
			return err
		}
		if j.Status == "failed" || time.Now().After(deadline) {
			return fmt.Errorf("job %s is %s and not %s: %s", id, j.Status, status, j.Error)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *service) submitTogether(clients, jobs int, g *graphs) (rated float64, took times, err error) {
	var left atomic.Int64
	left.Store(int64(jobs))
	var mu sync.Mutex
	began := time.Now()
	err = s.each(clients, func(_ int, c *client) error {
		var own times
		var body []byte
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		}()
		for left.Add(-1) >= 0 {
			body = g.request(body)
			at := time.Now()
			if _, err := c.submit(body); err != nil {
				return err
			}
			own = append(own, time.Since(at))
		}
		return nil
	})
	return perSecond(jobs, time.Since(began)), took, err
}

// acceptAlone is the same load on a store in this process.
func acceptAlone(ctx context.Context, l *lab, g *graphs) (rates []float64, err error) {
	st, err := store.Open(ctx, "sqlite:"+l.file("alone.db"), store.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := st.CreateTenant(ctx, models.Tenant{ID: "t", Name: "t", CreatedAt: time.Now(), Weight: 1}); err != nil {
		return nil, err
	}
	for _, load := range submitLoad {
		var left atomic.Int64
		left.Store(int64(load.jobs))
		began := time.Now()
		if err := together(load.clients, func(int) error {
			for left.Add(-1) >= 0 {
				if _, _, err := st.AcceptJob(ctx, models.NewJob{Job: models.Job{TenantID: "t"},
					Payload: models.JobPayload{Graph: g.graph()}, MaxQueued: 1 << 20, MaxQueuedTenant: 1 << 20}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
		rates = append(rates, perSecond(load.jobs, time.Since(began)))
	}
	return rates, nil
}

// syncRate is how often a second this disk takes a page for good.
func syncRate(l *lab) (float64, error) {
	f, err := os.Create(l.file("sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	page := make([]byte, 16<<10)
	began := time.Now()
	for range syncs {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return perSecond(syncs, time.Since(began)), nil
}

// countJobs looks into the database of a service that was killed: every accepted job must be there. That each commit was
// synced is the store's to say: it opens no connection whose synchronous is not FULL.
func (s *service) countJobs(want int) (err error) {
	if err := s.stop(); err != nil {
		return err
	}
	db, err := openDatabase(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var have int
	var mode string
	if err := db.QueryRow("SELECT COUNT(*) FROM jobs").Scan(&have); err != nil {
		return err
	}
	if err := db.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if have != want || mode != "wal" {
		return fmt.Errorf("the database has %d of %d accepted jobs, journal mode %s", have, want, mode)
	}
	return nil
}

// openDatabase opens a stopped service's database with the driver that the store has registered.
func openDatabase(dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", "file:"+dir+"/comfyfleet.db")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}
