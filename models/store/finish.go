package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// durableWait bounds how long a transaction waits for the bytes of its outputs; who comes meanwhile waits with it.
const durableWait = 10 * time.Millisecond

// FinishAttempt ends an attempt and its job with it: job, attempt, outputs, assets, last event, usage and webhook
// delivery are one transaction. models.ErrFenced, and nothing written, when the attempt is not its job's any more;
// models.ErrNotDurable when its outputs were not on the disk in a moment, and f's own error when they cannot be.
func (s *Store) FinishAttempt(ctx context.Context, f models.Finish) (models.Job, error) {
	if !f.Job.Final() || f.Attempt.Open() {
		return models.Job{}, fmt.Errorf("finish attempt %s: %s and %s are not final", f.AttemptID, f.Job, f.Attempt)
	}
	f.At = stamp(f.At)
	// The disk takes the outputs while the database prepares the end, when nobody else wants the database.
	if !s.writer.idle() {
		if err := durable(f, 0); err != nil {
			return models.Job{}, err
		}
		f.Durable = nil
	}
	var job models.Job
	err := s.write(ctx, "finish attempt", "attempt", func(tx *gorm.DB) error {
		a, before, err := ownAttempt(tx, f.AttemptID)
		if err != nil {
			return err
		}
		job = before
		var steps []eventRow
		if f.StartedAt != nil && a.StartedAt == nil {
			ev := execute(&a, &job, stamp(*f.StartedAt), f.Simulated)
			steps = append(steps, step(&job, ev))
		}
		if f.Job == models.JobSucceeded && a.StartedAt == nil {
			// So short that nobody saw it execute: its start follows from its end.
			start(&a, &job, f.At.Add(-time.Duration(f.LoadMS+f.ExecMS+f.CollectMS)*time.Millisecond))
		}
		closeAttempt(&a, f)
		if err := attemptsTable.save(tx, &a); err != nil {
			return err
		}
		settle(&job, a, f)
		if err := addAssets(tx, job, f.Assets, models.AssetOutput, f.At); err != nil {
			return err
		}
		if err := addOutputs(tx, job, f.Outputs, f.At); err != nil {
			return err
		}
		if err := s.finish(tx, before, &job, ending{state: f.Job, at: f.At, attempt: a, message: f.Error,
			outputBytes: sizeOf(f.Outputs)}, steps...); err != nil {
			return err
		}
		return durable(f, durableWait)
	})
	if err != nil {
		return models.Job{}, err
	}
	return job, nil
}

// durable waits so long for the bytes of an end's outputs.
func durable(f models.Finish, wait time.Duration) error {
	if f.Durable == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := f.Durable(ctx)
	if err != nil && errors.Is(err, ctx.Err()) {
		return models.ErrNotDurable
	}
	return err
}

// ending is how a job ends.
type ending struct {
	state       models.JobState
	at          time.Time
	attempt     models.Attempt // zero when none was open
	message     string
	outputBytes int64
}

// finish is the only way into a final state. It stores the job with its last event, after those of earlier steps, and
// what must be true with it: counters, usage and the webhook delivery.
func (s *Store) finish(tx *gorm.DB, before models.Job, job *models.Job, e ending, earlier ...eventRow) error {
	job.State, job.Phase, job.FinishedAt = e.state, models.PhaseNone, &e.at
	job.AttemptID, job.WaitingReason = "", ""
	p := &job.Progress
	p.Value, p.Max, p.CurrentNode, p.CurrentClass = 0, 0, "", ""
	if e.state == models.JobSucceeded {
		p.Percent, p.NodesDone = 100, p.NodesTotal
	}
	last := step(job, models.Event{At: e.at, Kind: finalEvent(e.state), AttemptID: e.attempt.ID,
		Worker: e.attempt.Worker, Message: e.message})
	if err := s.record(tx, before, *job, append(earlier, last)...); err != nil {
		return err
	}
	if err := addUsage(tx, *job, e); err != nil {
		return err
	}
	return s.addDelivery(tx, *job, e.at)
}

// closeAttempt writes an attempt's end into it.
func closeAttempt(a *models.Attempt, f models.Finish) {
	a.State, a.EndedAt = f.Attempt, &f.At
	a.Cause, a.Detail, a.LogTail, a.NodeTimes = f.Cause, f.Detail, f.LogTail, f.NodeTimes
	if f.PID != 0 {
		a.PID = f.PID
	}
	a.LoadMS, a.ExecMS, a.CollectMS = f.LoadMS, f.ExecMS, f.CollectMS
}

// settle writes the result of the last attempt into its job.
func settle(job *models.Job, a models.Attempt, f models.Finish) {
	job.ErrorCode, job.Error, job.NodeErrors, job.LogTail = f.ErrorCode, f.Error, f.NodeErrors, f.LogTail
	job.Progress = progressed(job.Progress, f.Progress)
	if a.StartedAt == nil {
		return // refused before it ran: no card time
	}
	charge(job, a.LoadMS, a.ExecMS)
	job.Metrics.CollectMS += a.CollectMS
	if f.Cause.Fault() {
		job.Faults++
	}
	if f.Cause == models.CauseOOM {
		job.OOMs++
	}
}

// charge adds a counted attempt's card time to its job.
func charge(job *models.Job, loadMS, execMS int64) {
	job.Metrics.LoadMS += loadMS
	job.Metrics.ExecMS += execMS
	job.Metrics.GPUMS += loadMS + execMS
}

func sizeOf(outputs []models.Output) (bytes int64) {
	for _, o := range outputs {
		bytes += o.Size
	}
	return bytes
}

func finalEvent(s models.JobState) string {
	switch s {
	case models.JobSucceeded:
		return models.EventSucceeded
	case models.JobCanceled:
		return models.EventCanceled
	case models.JobExpired:
		return models.EventExpired
	}
	return models.EventFailed
}
