package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var endTests = map[string]func(*testing.T, *bench){
	"success stores everything at once": func(t *testing.T, b *bench) {
		job := b.accept(t, func(n *models.NewJob) { n.Job.WorkflowSlug = "wan" })
		a := b.run(t, job.ID, "gpu0")
		seen, at := b.now(), b.now()
		f := models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded, At: at,
			Progress: models.Progress{Percent: 80, Value: 3, Max: 4, NodesDone: 6, NodesTotal: 7, CurrentNode: "9",
				CurrentClass: "SaveImage", LastEventAt: &seen},
			PID: 4, LoadMS: 100, ExecMS: 200, CollectMS: 30, NodeTimes: `[]`,
			Outputs: []models.Output{
				{ID: "o2", NodeID: "9", Filename: "b.png", Type: "image", ContentType: "image/png", Size: 10, SHA256: "b"},
				{ID: "o1", NodeID: "9", Filename: "a.txt", Type: "text", ContentType: "text/plain", Size: 5, SHA256: "a", Temp: true, Content: []byte("hello")}},
			Assets: []models.Asset{{ID: "o1", Size: 5, SHA256: "a"}, {ID: "o2", Size: 10, SHA256: "b"}}}
		got, err := b.FinishAttempt(t.Context(), f)
		require.NoError(t, err)
		b.again(t)
		require.Equal(t, b.job(t, job.ID), got)
		require.Equal(t, models.JobSucceeded, got.State)
		require.Equal(t, models.PhaseNone, got.Phase)
		require.Equal(t, at, *got.FinishedAt)
		require.Empty(t, got.AttemptID)
		require.Equal(t, a.ID, got.PromptID)
		require.Equal(t, models.Progress{Percent: 100, NodesDone: 7, NodesTotal: 7, LastEventAt: &seen}, got.Progress)
		require.Equal(t, models.Metrics{QueueMS: got.Metrics.QueueMS, LoadMS: 100, ExecMS: 200, CollectMS: 30, GPUMS: 300}, got.Metrics)
		ended := b.attempt(t, a.ID)
		require.Equal(t, models.AttemptSucceeded, ended.State)
		require.Equal(t, at, *ended.EndedAt)
		require.Equal(t, 4, ended.PID)

		outputs, err := b.Outputs(t.Context(), job.ID)
		require.NoError(t, err)
		require.Len(t, outputs, 2)
		want := f.Outputs[1]
		want.JobID, want.TenantID, want.Index, want.CreatedAt = job.ID, b.tenant, 1, at
		require.Equal(t, want, outputs[1])
		require.Nil(t, outputs[0].Content, "it is in the storage")
		one, err := b.Output(t.Context(), "o2")
		require.NoError(t, err)
		require.Equal(t, outputs[0], one)
		asset, err := b.Asset(t.Context(), "o2")
		require.NoError(t, err)
		require.Equal(t, models.AssetOutput, asset.Kind)
		require.Equal(t, b.tenant, asset.TenantID)

		usage, err := b.UsageOf(t.Context(), b.tenant, "2026-11-01", "2026-11-30")
		require.NoError(t, err)
		require.Equal(t, []models.Usage{{TenantID: b.tenant, Day: "2026-11-24", WorkflowSlug: "wan", Jobs: 1,
			GPUMS: 300, OutputBytes: 15}}, usage)
		_, err = b.FinishAttempt(t.Context(), f)
		require.ErrorIs(t, err, models.ErrFenced)
	},
	"a start that was not stored yet is stored with the end": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.claim(t, job.ID, "gpu0")
		began, at := b.now(), b.now()
		got, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded,
			StartedAt: &began, Simulated: true, At: at, ExecMS: 2})
		require.NoError(t, err)
		require.Equal(t, b.job(t, job.ID), got)
		require.Equal(t, began, *got.StartedAt)
		require.True(t, got.Simulated)
		require.Equal(t, 1, got.Attempts)
		require.Equal(t, began, *b.attempt(t, a.ID).StartedAt)
		events, err := b.Events(t.Context(), job.ID, 0, 10)
		require.NoError(t, err)
		var kinds []string
		for i, e := range events {
			require.EqualValues(t, i+1, e.Rev)
			kinds = append(kinds, e.Kind)
		}
		require.Equal(t, []string{models.EventAccepted, models.EventClaimed, models.EventStarted, models.EventSucceeded}, kinds)
	},
	"an end is not stored before its outputs are": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		before := b.job(t, job.ID)
		onDisk, asked := make(chan struct{}), make(chan struct{}, 1)
		f := models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded, At: b.now(),
			Outputs: []models.Output{{ID: "o1", NodeID: "9", Size: 5}}, Assets: []models.Asset{{ID: "o1", Size: 5}},
			Durable: func(ctx context.Context) error {
				select {
				case asked <- struct{}{}:
				default:
				}
				select {
				case <-onDisk:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
		ended := make(chan error, 1)
		finish := func() {
			_, err := b.FinishAttempt(t.Context(), f)
			ended <- err
		}
		go finish()
		<-asked
		b.accept(t) // nobody waits for a slow disk for long
		require.ErrorIs(t, <-ended, models.ErrNotDurable)
		require.Equal(t, before, b.job(t, job.ID))
		_, err := b.Output(t.Context(), "o1")
		requireCode(t, models.CodeNotFound, err)
		go finish()
		<-asked
		close(onDisk) // at once
		err = <-ended
		if errors.Is(err, models.ErrNotDurable) { // this machine took longer
			_, err = b.FinishAttempt(t.Context(), f)
		}
		require.NoError(t, err)
		require.Equal(t, models.JobSucceeded, b.job(t, job.ID).State)
		outputs, err := b.Outputs(t.Context(), job.ID)
		require.NoError(t, err)
		require.Len(t, outputs, 1)
	},
	"an end whose outputs are lost stores nothing": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		before := b.job(t, job.ID)
		lost := errors.New("the disk refused")
		_, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded,
			At: b.now(), Outputs: []models.Output{{ID: "o1"}}, Assets: []models.Asset{{ID: "o1"}},
			Durable: func(context.Context) error { return lost }})
		require.ErrorIs(t, err, lost)
		require.Equal(t, before, b.job(t, job.ID))
		_, err = b.Output(t.Context(), "o1")
		requireCode(t, models.CodeNotFound, err)
		require.Equal(t, models.AttemptExecuting, b.attempt(t, a.ID).State)
	},
	"a success that nobody saw start still counts": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.claim(t, job.ID, "gpu0")
		b.at = b.at.Add(time.Minute)
		at := b.now()
		got, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded,
			Job: models.JobSucceeded, At: at, ExecMS: 2000, CollectMS: 500})
		require.NoError(t, err)
		require.Equal(t, 1, got.Attempts)
		require.Equal(t, at.Add(-2500*time.Millisecond), *got.StartedAt)
		require.EqualValues(t, 2000, got.Metrics.GPUMS)
	},
	"a refused graph fails without card time": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.claim(t, job.ID, "gpu0")
		got, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptFailed,
			Job: models.JobFailed, At: b.now(), Cause: models.CauseRejected, ErrorCode: string(models.CauseRejected),
			Error: "the graph was refused", NodeErrors: `{"4":{}}`, Detail: "400", LogTail: "a\nb"})
		require.NoError(t, err)
		require.Equal(t, b.job(t, job.ID), got)
		require.Equal(t, models.JobFailed, got.State)
		require.Equal(t, "graph_rejected", got.ErrorCode)
		require.Equal(t, "the graph was refused", got.Error)
		require.Equal(t, `{"4":{}}`, got.NodeErrors)
		require.Equal(t, "a\nb", got.LogTail)
		require.Zero(t, got.Metrics.GPUMS)
		require.Zero(t, got.Attempts)
		require.Nil(t, got.StartedAt)
	},
	"the last of several attempts adds to what they used": func(t *testing.T, b *bench) {
		job := b.accept(t)
		for range 2 {
			a := b.run(t, job.ID, "gpu0")
			_, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptLost,
				At: b.now(), Cause: models.CauseStalled, Fault: true, LoadMS: 1, ExecMS: 2})
			require.NoError(t, err)
		}
		first := b.job(t, job.ID)
		a := b.run(t, job.ID, "gpu0")
		got, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptLost,
			Job: models.JobFailed, At: b.now(), Cause: models.CauseCrashed, LoadMS: 10, ExecMS: 20,
			Progress: models.Progress{Percent: 100}})
		require.NoError(t, err)
		require.Equal(t, 3, got.Attempts)
		require.Equal(t, models.MaxFaults, got.Faults)
		require.EqualValues(t, 36, got.Metrics.GPUMS)
		require.Equal(t, first.StartedAt, got.StartedAt)
		require.Equal(t, first.Metrics.QueueMS, got.Metrics.QueueMS)
		require.Equal(t, 99, got.Progress.Percent, "100 is for success")
	},
	"a waiting job is cancelled once": func(t *testing.T, b *bench) {
		job := b.accept(t)
		_, _, err := b.CancelJob(t.Context(), "tenant-b", job.ID, b.now(), "")
		requireCode(t, models.CodeNotFound, err)
		at := b.now()
		got, changed, err := b.CancelJob(t.Context(), b.tenant, job.ID, at, "")
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, b.job(t, job.ID), got)
		require.Equal(t, models.JobCanceled, got.State)
		require.Equal(t, "Cancelled by user", got.Error)
		require.Equal(t, "canceled", got.ErrorCode)
		require.Equal(t, at, *got.FinishedAt)
		again, changed, err := b.CancelJob(t.Context(), "", job.ID, b.now(), "by an operator")
		require.NoError(t, err)
		require.False(t, changed)
		require.Equal(t, got, again)
		_, _, err = b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: job.ID})
		require.ErrorIs(t, err, models.ErrFenced)
	},
	"a running job is cancelled with its attempt, and its later success is nothing": func(t *testing.T, b *bench) {
		job := b.accept(t, func(n *models.NewJob) { n.Job.WebhookURL = "https://a.example/hook" })
		a := b.run(t, job.ID, "gpu0")
		b.at = b.attempt(t, a.ID).StartedAt.Add(2 * time.Second)
		got, changed, err := b.CancelJob(t.Context(), "", job.ID, b.now(), "Cancelled by an operator")
		require.NoError(t, err)
		require.True(t, changed)
		require.Equal(t, "Cancelled by an operator", got.Error)
		require.Equal(t, a.ID, got.PromptID)
		require.EqualValues(t, 3000, got.Metrics.GPUMS)
		ended := b.attempt(t, a.ID)
		require.Equal(t, models.AttemptCanceled, ended.State)
		require.Equal(t, models.CauseCanceled, ended.Cause)
		require.NotNil(t, ended.EndedAt)
		_, err = b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptSucceeded,
			Job: models.JobSucceeded, At: b.now()})
		require.ErrorIs(t, err, models.ErrFenced)
		require.Equal(t, got, b.job(t, job.ID))
		deliveries, err := b.DeliveriesOf(t.Context(), job.ID)
		require.NoError(t, err)
		require.Len(t, deliveries, 1)
		require.Equal(t, "job.failed", deliveries[0].Event)
		usage, err := b.UsageOf(t.Context(), "", "2026-11-24", "2026-11-24")
		require.NoError(t, err)
		require.Equal(t, []models.Usage{{TenantID: b.tenant, Day: "2026-11-24", Jobs: 1, GPUMS: 3000}}, usage)
	},
	"a cancelled job that was collecting is charged what it executed": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		require.NoError(t, b.AttemptCollecting(t.Context(), a.ID, b.now(), 40, 60))
		got, _, err := b.CancelJob(t.Context(), b.tenant, job.ID, b.now(), "")
		require.NoError(t, err)
		require.EqualValues(t, 100, got.Metrics.GPUMS)
		require.EqualValues(t, 40, got.Metrics.LoadMS)
	},
	"waiting and staged jobs expire, running and staging ones do not": func(t *testing.T, b *bench) {
		deadline := start.Add(time.Hour)
		due := func(n *models.NewJob) { n.Job.DeadlineAt = &deadline }
		waits, staged, staging, running := b.accept(t, due), b.accept(t, due), b.accept(t, due), b.accept(t, due)
		b.accept(t)
		a := b.claim(t, staged.ID, "gpu0")
		require.NoError(t, b.AttemptStaged(t.Context(), a.ID, b.now()))
		b.claim(t, staging.ID, "gpu1")
		b.run(t, running.ID, "gpu2")
		none, err := b.ExpireJobs(t.Context(), deadline.Add(-time.Microsecond), 10)
		require.NoError(t, err)
		require.Empty(t, none)
		expired, err := b.ExpireJobs(t.Context(), deadline, 1)
		require.NoError(t, err)
		require.Len(t, expired, 1)
		more, err := b.ExpireJobs(t.Context(), deadline, 10)
		require.NoError(t, err)
		require.Len(t, more, 1)
		for _, job := range append(expired, more...) {
			require.Equal(t, b.job(t, job.ID), job)
			require.Equal(t, models.JobExpired, job.State)
			require.Equal(t, "deadline_exceeded", job.ErrorCode)
			require.Contains(t, []string{waits.ID, staged.ID}, job.ID)
			require.Contains(t, b.kinds(t, job.ID), models.EventExpired)
		}
		require.Equal(t, models.AttemptCanceled, b.attempt(t, a.ID).State)
		require.ErrorIs(t, b.AttemptStarted(t.Context(), a.ID, deadline, false), models.ErrFenced)
	},
	"many jobs expire in one call": func(t *testing.T, b *bench) {
		deadline := start.Add(time.Second)
		for range 130 {
			b.accept(t, func(n *models.NewJob) { n.Job.DeadlineAt = &deadline })
		}
		expired, err := b.ExpireJobs(t.Context(), deadline, 1000)
		require.NoError(t, err)
		require.Len(t, expired, 130)
	},
	"usage adds up by day and workflow": func(t *testing.T, b *bench) {
		deadline := start.Add(24 * time.Hour)
		wan := func(n *models.NewJob) { n.Job.WorkflowSlug = "wan"; n.Job.DeadlineAt = &deadline }
		b.succeed(t, b.accept(t, wan).ID, b.id())
		b.succeed(t, b.accept(t, wan).ID, b.id(), b.id())
		b.accept(t, wan)
		_, err := b.ExpireJobs(t.Context(), deadline, 1)
		require.NoError(t, err)
		usage, err := b.UsageOf(t.Context(), b.tenant, "2026-11-24", "2026-11-25")
		require.NoError(t, err)
		require.Equal(t, []models.Usage{
			{TenantID: b.tenant, Day: "2026-11-24", WorkflowSlug: "wan", Jobs: 3, Failed: 1, GPUMS: 600, OutputBytes: 3000},
		}, usage)
		none, err := b.UsageOf(t.Context(), "tenant-b", "2026-11-24", "2026-11-25")
		require.NoError(t, err)
		require.Empty(t, none)
	},
}
