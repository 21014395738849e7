package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var attemptTests = map[string]func(*testing.T, *bench){
	"a claim moves a waiting job to staging": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a, claimed, err := b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: job.ID, Worker: "gpu0",
			PlacedBecause: "idle", CreatedAt: b.now()})
		require.NoError(t, err)
		require.Equal(t, 1, a.Number)
		require.Equal(t, b.tenant, a.TenantID)
		require.Equal(t, models.AttemptStaging, a.State)
		require.Equal(t, a, b.attempt(t, a.ID))
		require.Equal(t, claimed, b.job(t, job.ID))
		require.Equal(t, models.JobQueued, claimed.State)
		require.Equal(t, models.PhaseStaging, claimed.Phase)
		require.Equal(t, a.ID, claimed.AttemptID)
		require.Equal(t, a.ID, claimed.PromptID)
		require.Equal(t, "gpu0", claimed.Worker)
		require.Zero(t, claimed.Attempts)
		_, _, err = b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: job.ID, Worker: "gpu1"})
		require.ErrorIs(t, err, models.ErrFenced)
		_, _, err = b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: "nobody", Worker: "gpu1"})
		requireCode(t, models.CodeNotFound, err)
	},
	"an attempt goes through its phases, each told twice": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.claim(t, job.ID, "gpu0")
		staged, started, collecting := b.now(), b.now(), b.now()
		for range 2 {
			require.NoError(t, b.AttemptStaged(t.Context(), a.ID, staged))
		}
		require.Equal(t, models.PhaseStaged, b.job(t, job.ID).Phase)
		for range 2 {
			require.NoError(t, b.AttemptStarted(t.Context(), a.ID, started, true))
		}
		require.NoError(t, b.AttemptStaged(t.Context(), a.ID, staged), "late, changes nothing")
		now := b.job(t, job.ID)
		require.Equal(t, models.JobRunning, now.State)
		require.Equal(t, models.PhaseExecuting, now.Phase)
		require.Equal(t, 1, now.Attempts)
		require.True(t, now.Simulated)
		require.Equal(t, started, *now.StartedAt)
		require.Equal(t, started.Sub(job.CreatedAt).Milliseconds(), now.Metrics.QueueMS)
		for range 2 {
			require.NoError(t, b.AttemptCollecting(t.Context(), a.ID, collecting, 40, 60))
		}
		require.NoError(t, b.AttemptStarted(t.Context(), a.ID, started, true), "late, changes nothing")
		require.Equal(t, models.PhaseCollecting, b.job(t, job.ID).Phase)
		got := b.attempt(t, a.ID)
		require.Equal(t, models.AttemptCollecting, got.State)
		require.Equal(t, staged, *got.StagedAt)
		require.Equal(t, started, *got.StartedAt)
		require.EqualValues(t, 40, got.LoadMS)
		require.EqualValues(t, 60, got.ExecMS)
		require.Equal(t, []string{"accepted", "claimed", "staged", "started", "collecting"}, b.kinds(t, job.ID))
	},
	"progress never falls, says no event, and stays below 100": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		save := func(phase models.Phase, p models.Progress) models.Job {
			stored, err := b.SaveProgress(t.Context(), []models.ProgressUpdate{
				{JobID: "nobody", AttemptID: "nobody", Phase: phase, Progress: p},
				{JobID: job.ID, AttemptID: a.ID, Phase: phase, Progress: p}})
			require.NoError(t, err)
			require.Equal(t, []string{a.ID}, stored)
			return b.job(t, job.ID)
		}
		at := b.now()
		p := models.Progress{Percent: 40, Value: 2, Max: 5, NodesDone: 3, NodesTotal: 7, CurrentNode: "12",
			CurrentClass: "KSampler", LastEventAt: &at}
		got := save(models.PhaseLoading, p)
		require.Equal(t, p, got.Progress)
		require.Equal(t, models.PhaseLoading, got.Phase)
		require.EqualValues(t, 4, got.Revision)
		got = save(models.PhaseExecuting, models.Progress{Percent: 30, Value: 1, Max: 5})
		require.Equal(t, 40, got.Progress.Percent)
		require.Equal(t, 1, got.Progress.Value)
		require.Equal(t, at, *got.Progress.LastEventAt, "kept when an update has none")
		require.Equal(t, 99, save(models.PhaseExecuting, models.Progress{Percent: 100}).Progress.Percent)
		require.NoError(t, b.AttemptCollecting(t.Context(), a.ID, b.now(), 1, 1))
		require.Equal(t, models.PhaseCollecting, save(models.PhaseExecuting, p).Phase, "not back from collecting")
	},
	"progress of a fenced attempt is dropped": func(t *testing.T, b *bench) {
		job := b.accept(t)
		old := b.run(t, job.ID, "gpu0")
		_, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: old.ID, Attempt: models.AttemptLost, At: b.now()})
		require.NoError(t, err)
		update := []models.ProgressUpdate{{JobID: job.ID, AttemptID: old.ID, Progress: models.Progress{Percent: 50}}}
		dropped := func() {
			stored, err := b.SaveProgress(t.Context(), update)
			require.NoError(t, err)
			require.Empty(t, stored)
			require.Zero(t, b.job(t, job.ID).Progress.Percent)
		}
		dropped()
		b.run(t, job.ID, "gpu1")
		dropped()
		update = nil
		dropped()
	},
	"the fence knows whose a job is": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		require.NoError(t, b.Fence(t.Context(), job.ID, a.ID))
		require.ErrorIs(t, b.Fence(t.Context(), job.ID, "another"), models.ErrFenced)
		require.Equal(t, models.CodeNotFound, models.ErrorCode(b.Fence(t.Context(), "nobody", a.ID)))
		_, _, err := b.CancelJob(t.Context(), "", job.ID, b.now(), "stop")
		require.NoError(t, err)
		require.ErrorIs(t, b.Fence(t.Context(), job.ID, a.ID), models.ErrFenced)

		state, err := b.JobState(t.Context(), job.TenantID, job.ID)
		require.NoError(t, err)
		require.Equal(t, models.JobCanceled, state)
		state, err = b.JobState(t.Context(), "", job.ID)
		require.NoError(t, err)
		require.Equal(t, models.JobCanceled, state)
		_, err = b.JobState(t.Context(), "another", job.ID)
		require.Equal(t, models.CodeNotFound, models.ErrorCode(err))
	},
	"a lost attempt puts its job back at its old place": func(t *testing.T, b *bench) {
		job := b.accept(t)
		b.accept(t)
		a := b.run(t, job.ID, "gpu0")
		_, err := b.SaveProgress(t.Context(), []models.ProgressUpdate{{JobID: job.ID, AttemptID: a.ID,
			Progress: models.Progress{Percent: 30, Value: 1, Max: 9, CurrentNode: "4", CurrentClass: "VAEDecode"}}})
		require.NoError(t, err)
		at := b.now()
		got, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptLost, At: at,
			Cause: models.CauseCrashed, Detail: "exit code 139", LogTail: "boom", PID: 77, Fault: true, LoadMS: 10, ExecMS: 20})
		require.NoError(t, err)
		require.Equal(t, b.job(t, job.ID), got)
		require.Equal(t, models.JobQueued, got.State)
		require.Equal(t, models.PhaseWaiting, got.Phase)
		require.Empty(t, got.AttemptID)
		require.Equal(t, a.ID, got.PromptID)
		require.Equal(t, 1, got.Attempts)
		require.Equal(t, 1, got.Faults)
		require.Equal(t, models.Progress{Percent: 30}, got.Progress)
		require.EqualValues(t, 30, got.Metrics.GPUMS)
		ended := b.attempt(t, a.ID)
		require.Equal(t, models.AttemptLost, ended.State)
		require.Equal(t, at, *ended.EndedAt)
		require.Equal(t, models.CauseCrashed, ended.Cause)
		require.Equal(t, "exit code 139", ended.Detail)
		require.Equal(t, "boom", ended.LogTail)
		require.Equal(t, 77, ended.PID)

		view, err := b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, view.Jobs, 2)
		require.Equal(t, job.ID, view.Jobs[0].ID)
		require.Equal(t, []string{"gpu0"}, view.Jobs[0].Avoid)
		require.Empty(t, view.Jobs[1].Avoid)

		second := b.claim(t, job.ID, "gpu1")
		require.Equal(t, 2, second.Number)
		require.Equal(t, []string{"accepted", "claimed", "staged", "started", "requeued", "claimed"}, b.kinds(t, job.ID))
	},
	"what did not execute or was uncounted does not count": func(t *testing.T, b *bench) {
		job := b.accept(t)
		a := b.claim(t, job.ID, "gpu0")
		got, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptReleased,
			At: b.now(), Cause: models.CauseTakenBack})
		require.NoError(t, err)
		require.Zero(t, got.Attempts)
		a = b.run(t, job.ID, "gpu0")
		got, err = b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptReleased,
			At: b.now(), Cause: models.CauseServerStop, Uncount: true, LoadMS: 5, ExecMS: 6})
		require.NoError(t, err)
		require.Zero(t, got.Attempts)
		require.Zero(t, got.Metrics.GPUMS)
		a = b.run(t, job.ID, "gpu0")
		got, err = b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptLost,
			At: b.now(), Cause: models.CauseOOM, OOM: true})
		require.NoError(t, err)
		require.Equal(t, 1, got.Attempts)
		require.Equal(t, 1, got.OOMs)
		require.Zero(t, got.Faults)
		view, err := b.Queue(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []string{"gpu0"}, view.Jobs[0].Avoid, "once")
		require.Contains(t, b.kinds(t, job.ID), models.EventTakenBack)
		attempts, err := b.Attempts(t.Context(), job.ID)
		require.NoError(t, err)
		require.Len(t, attempts, 3)
		require.Equal(t, 3, attempts[2].Number)
	},
	"an attempt that lost its job changes nothing": func(t *testing.T, b *bench) {
		job := b.accept(t)
		old := b.run(t, job.ID, "gpu0")
		_, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: old.ID, Attempt: models.AttemptLost, At: b.now()})
		require.NoError(t, err)
		b.claim(t, job.ID, "gpu1")
		before := b.job(t, job.ID)
		now := b.now()
		require.ErrorIs(t, b.AttemptStaged(t.Context(), old.ID, now), models.ErrFenced)
		require.ErrorIs(t, b.AttemptStarted(t.Context(), old.ID, now, false), models.ErrFenced)
		require.ErrorIs(t, b.AttemptCollecting(t.Context(), old.ID, now, 1, 2), models.ErrFenced)
		_, err = b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: old.ID, Attempt: models.AttemptLost, At: now})
		require.ErrorIs(t, err, models.ErrFenced)
		_, err = b.FinishAttempt(t.Context(), models.Finish{AttemptID: old.ID, Attempt: models.AttemptSucceeded,
			Job: models.JobSucceeded, At: now, Assets: []models.Asset{{ID: "stale"}}})
		require.ErrorIs(t, err, models.ErrFenced)
		require.Equal(t, before, b.job(t, job.ID))
		_, err = b.Asset(t.Context(), "stale")
		requireCode(t, models.CodeNotFound, err)
		requireCode(t, models.CodeNotFound, b.AttemptStaged(t.Context(), "nobody", now))
		_, err = b.Attempt(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
	},
	"open attempts are found after a restart": func(t *testing.T, b *bench) {
		done, running, staged := b.accept(t), b.accept(t), b.accept(t)
		b.accept(t)
		b.succeed(t, done.ID)
		first := b.run(t, running.ID, "gpu0")
		second := b.claim(t, staged.ID, "gpu0")
		b.again(t)
		open, err := b.OpenAttempts(t.Context())
		require.NoError(t, err)
		require.Len(t, open, 2)
		require.Equal(t, models.OpenAttempt{Attempt: b.attempt(t, first.ID), Job: b.job(t, running.ID)}, open[0])
		require.Equal(t, models.OpenAttempt{Attempt: b.attempt(t, second.ID), Job: b.job(t, staged.ID)}, open[1])
	},
	"an open state cannot be an end": func(t *testing.T, b *bench) {
		a := b.run(t, b.accept(t).ID, "gpu0")
		_, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptFailed, Job: models.JobQueued})
		require.Error(t, err)
		_, err = b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptExecuting, Job: models.JobFailed})
		require.Error(t, err)
		_, err = b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptFailed, At: time.Now()})
		require.Error(t, err)
	},
}
