package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var raceTests = map[string]func(*testing.T, *bench){
	"a hundred twins with one key make one job": func(t *testing.T, b *bench) {
		var made atomic.Int64
		ids := make([]string, 100)
		news := make([]models.NewJob, len(ids))
		for i := range news {
			news[i] = b.newJob(func(n *models.NewJob) {
				n.Idempotency = &models.Idempotency{Key: "k", Fingerprint: "f", Until: start.Add(time.Hour)}
			})
		}
		together(len(ids), func(i int) {
			job, replayed, err := b.AcceptJob(t.Context(), news[i])
			if err != nil {
				t.Error(err)
			}
			if !replayed {
				made.Add(1)
			}
			ids[i] = job.ID
		})
		require.EqualValues(t, 1, made.Load())
		for _, id := range ids {
			require.Equal(t, ids[0], id)
		}
		counts, err := b.Counts(t.Context(), models.JobFilter{})
		require.NoError(t, err)
		require.Equal(t, 1, counts[models.JobQueued])
	},
	"of many claimers one wins": func(t *testing.T, b *bench) {
		var jobs []models.Job
		for range 10 {
			jobs = append(jobs, b.accept(t))
		}
		var won atomic.Int64
		together(16, func(worker int) {
			for _, job := range jobs {
				_, _, err := b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: job.ID, Worker: fmt.Sprint("gpu", worker)})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, models.ErrFenced):
					t.Error(err)
				}
			}
		})
		require.EqualValues(t, len(jobs), won.Load())
		open, err := b.OpenAttempts(t.Context())
		require.NoError(t, err)
		require.Len(t, open, len(jobs))
	},
	"cancel and success: one of them wins": func(t *testing.T, b *bench) {
		for range 20 {
			job := b.accept(t, func(n *models.NewJob) { n.Job.WebhookURL = "https://a.example/hook" })
			a := b.run(t, job.ID, "gpu0")
			at := b.now()
			var canceled, finished bool
			together(2, func(i int) {
				if i == 0 {
					_, changed, err := b.CancelJob(t.Context(), "", job.ID, at, "")
					canceled = changed && err == nil
					return
				}
				_, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded,
					Job: models.JobSucceeded, At: at})
				finished = err == nil
			})
			require.NotEqual(t, canceled, finished)
			state := b.job(t, job.ID).State
			require.Equal(t, finished, state == models.JobSucceeded)
			deliveries, err := b.DeliveriesOf(t.Context(), job.ID)
			require.NoError(t, err)
			require.Len(t, deliveries, 1)
			require.Equal(t, models.WebhookEvent(state), deliveries[0].Event)
		}
	},
	"a cap holds under a rush": func(t *testing.T, b *bench) {
		news := make([]models.NewJob, 60)
		for i := range news {
			news[i] = b.newJob(func(n *models.NewJob) { n.MaxQueuedTenant = 25 })
		}
		var accepted atomic.Int64
		together(len(news), func(i int) {
			if _, _, err := b.AcceptJob(t.Context(), news[i]); err == nil {
				accepted.Add(1)
			} else if models.ErrorCode(err) != models.CodeLimited {
				t.Error(err)
			}
		})
		require.EqualValues(t, 25, accepted.Load())
	},
	"counters hold over random lives": func(t *testing.T, b *bench) {
		// Eight workers and a canceller act at random on the same jobs; every error but a lost race is a failure.
		const workers, steps = 8, 60
		var jobs []string
		for range 30 {
			jobs = append(jobs, b.accept(t).ID)
		}
		together(workers, func(w int) {
			dice := rand.New(rand.NewPCG(7, uint64(w)))
			for range steps {
				if err := randomStep(t.Context(), b.Store, dice, jobs[dice.IntN(len(jobs))], b.id()); err != nil {
					t.Error(err)
					return
				}
			}
		})
		require.NoError(t, b.VerifyCounters(t.Context()))
		for _, id := range jobs {
			b.kinds(t, id) // revisions without gaps
		}
	},
	"a caller that gave up before its turn changes nothing": func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n := b.newJob()
		_, _, err := b.AcceptJob(ctx, n)
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.Job(t.Context(), "", n.Job.ID)
		requireCode(t, models.CodeNotFound, err)
	},
	"a closed store refuses": func(t *testing.T, b *bench) {
		require.NoError(t, b.Close())
		_, _, err := b.AcceptJob(t.Context(), b.newJob())
		requireCode(t, models.CodeUnavailable, err)
		_, err = b.Job(t.Context(), "", "x")
		require.Error(t, err)
		b.Store = b.reopen(t)
	},
}

// randomStep does one thing to a job that somebody may do to it. Losing a race is no error.
func randomStep(ctx context.Context, s Store, dice *rand.Rand, jobID, attemptID string) error {
	job, err := s.Job(ctx, "", jobID)
	if err != nil {
		return err
	}
	at := job.CreatedAt.Add(time.Minute)
	switch dice.IntN(7) {
	case 0, 1:
		_, _, err = s.Claim(ctx, models.Attempt{ID: attemptID, JobID: jobID, Worker: "gpu0"})
	case 2:
		err = s.AttemptStaged(ctx, job.AttemptID, at)
	case 3:
		err = s.AttemptStarted(ctx, job.AttemptID, at, false)
	case 4:
		_, err = s.RequeueAttempt(ctx, models.Requeue{AttemptID: job.AttemptID, Attempt: models.AttemptLost, At: at})
	case 5:
		if dice.IntN(4) == 0 {
			_, _, err = s.CancelJob(ctx, "", jobID, at, "")
		}
	case 6:
		if dice.IntN(4) == 0 {
			_, err = s.FinishAttempt(ctx, models.Finish{AttemptID: job.AttemptID, Attempt: models.AttemptSucceeded,
				Job: models.JobSucceeded, At: at})
		}
	}
	if errors.Is(err, models.ErrFenced) || (job.AttemptID == "" && models.ErrorCode(err) == models.CodeNotFound) {
		return nil
	}
	return err
}

// together calls do n times at once and waits.
func together(n int, do func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			do(i)
		})
	}
	close(gate)
	wg.Wait()
}
