package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// readyWorkers is a fleet of so many idle workers.
type readyWorkers struct {
	Fleet
	n int
}

func (f readyWorkers) Workers() (workers []models.Worker) {
	for i := range f.n {
		workers = append(workers, models.Worker{Name: fmt.Sprint("w", i), State: models.WorkerReady})
	}
	return workers
}

func (readyWorkers) Forget(context.Context, string, string, string) {}

// offering is a service in front of idle workers, for which nothing waits.
func offering(workers int) *Service {
	var ids atomic.Int64
	s := New(Config{
		Fleet: readyWorkers{n: workers}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		NewID: func() string { return fmt.Sprint("id", ids.Add(1)) },
	})
	s.life = context.Background()
	s.backlog.placed(s.backlog.count())
	return s
}

var tenant = models.Tenant{ID: "t1", Weight: 1}

func TestAWorkerIsOfferedWhenNothingWaitsForIt(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(s *Service)
		tenant  models.Tenant
		offered bool
	}{
		"idle":                       {tenant: tenant, offered: true},
		"somebody waits":             {tenant: tenant, change: func(s *Service) { s.queued() }},
		"somebody may wait again":    {tenant: tenant, change: func(s *Service) { s.Wake() }},
		"its tenant has a cap":       {tenant: models.Tenant{ID: "t1", Weight: 1, MaxRunning: 1}},
		"its tenant is suspended":    {tenant: models.Tenant{ID: "t1", Weight: 1, SuspendedAt: &time.Time{}}},
		"dispatch is paused":         {tenant: tenant, change: func(s *Service) { s.pauses.Store(&Pauses{Dispatch: true}) }},
		"the server stops":           {tenant: tenant, change: func(s *Service) { s.stopped = true }},
		"nothing was looked at yet":  {tenant: tenant, change: func(s *Service) { s.backlog = backlog{}; s.backlog.grow() }},
		"another job is better next": {tenant: tenant, change: func(s *Service) { s.onWorker["w0"] = []held{{}, {}} }},
	} {
		t.Run(name, func(t *testing.T) {
			s := offering(1)
			if c.change != nil {
				c.change(s)
			}
			a := s.offer(models.Job{ID: "j1", TenantID: "t1"}, c.tenant)
			require.Equal(t, c.offered, a != nil)
			if a != nil {
				require.Equal(t, "w0", a.Worker)
				require.Equal(t, "j1", a.JobID)
				require.NotEmpty(t, a.PlacedBecause)
			}
		})
	}
}

func TestAPlaceIsOfferedOnce(t *testing.T) {
	s := offering(8)
	var wg sync.WaitGroup
	var offered atomic.Int64
	for i := range 100 {
		wg.Go(func() {
			if s.offer(models.Job{ID: fmt.Sprint("j", i), TenantID: "t1"}, tenant) != nil {
				offered.Add(1)
			}
		})
	}
	wg.Wait()
	executing, next := 0, 0
	for _, mine := range s.onWorker {
		executing += min(len(mine), 1)
		next += len(mine) - 1
	}
	require.Equal(t, 8, executing, "every worker has one")
	require.LessOrEqual(t, next, 1, "what waits behind it is for the dispatcher")
	require.EqualValues(t, executing+next, offered.Load())
}

// fullStore accepts nothing.
type fullStore struct{ Store }

func (fullStore) AcceptJob(context.Context, models.NewJob) (models.Job, bool, error) {
	return models.Job{}, false, errors.New("full")
}

// twinStore has accepted everything before.
type twinStore struct{ Store }

func (twinStore) AcceptJob(context.Context, models.NewJob) (models.Job, bool, error) {
	return models.Job{ID: "first"}, true, nil
}

func TestAnOfferThatIsNotTakenGivesItsPlaceBack(t *testing.T) {
	for name, store := range map[string]Store{"refused": fullStore{}, "replayed": twinStore{}} {
		t.Run(name, func(t *testing.T) {
			s := offering(1)
			s.Store = store
			acc, err := s.accept(t.Context(), admission{tenant: tenant, job: models.Job{TenantID: "t1"}})
			require.Equal(t, name == "refused", err != nil)
			require.Equal(t, name == "replayed", acc.Replayed)
			s.running.Wait()
			require.Empty(t, s.onWorker["w0"], "the worker would never be used again")
			require.Empty(t, s.claiming)
			require.Empty(t, s.hub.topics, "followers would hear of a job that is none")
			require.NotNil(t, s.offer(models.Job{ID: "j2", TenantID: "t1"}, tenant))
		})
	}
}
