package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var queueTests = map[string]func(*testing.T, *bench){
	"each tenant's head is by priority, then age": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		low := b.accept(t, func(n *models.NewJob) { n.Job.Priority = -1 })
		old, young := b.accept(t), b.accept(t)
		high := b.accept(t, func(n *models.NewJob) { n.Job.Priority = 5; n.Job.WorkflowSlug = "wan" })
		other := b.accept(t, func(n *models.NewJob) { n.Job.TenantID = "tenant-b" })
		b.claim(t, b.accept(t).ID, "gpu0")
		view, err := b.Queue(t.Context(), 3)
		require.NoError(t, err)
		require.Equal(t, []string{high.ID, old.ID, young.ID, other.ID}, queued(view))
		require.Equal(t, models.QueuedJob{ID: high.ID, TenantID: b.tenant, Priority: 5, Seq: high.Seq,
			At: high.CreatedAt, WorkflowSlug: "wan"}, view.Jobs[0])
		require.Equal(t, map[string]models.TenantLoad{b.tenant: {Weight: 1, Claimed: 1}, "tenant-b": {Weight: 1}}, view.Tenants)
		view, err = b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []string{high.ID, old.ID, young.ID, low.ID, other.ID}, queued(view))
	},
	"a suspended tenant's jobs are left out, what it runs is not": func(t *testing.T, b *bench) {
		tenant, err := b.Tenant(t.Context(), b.tenant)
		require.NoError(t, err)
		tenant.SuspendedAt, tenant.Weight, tenant.MaxRunning = ptr(start), 4, 2
		b.run(t, b.accept(t).ID, "gpu0")
		b.accept(t)
		require.NoError(t, b.UpdateTenant(t.Context(), tenant))
		view, err := b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, view.Jobs)
		require.Equal(t, map[string]models.TenantLoad{b.tenant: {Weight: 4, Claimed: 1, MaxRunning: 2}}, view.Tenants)
	},
	"workers that lost a job are avoided, the last first": func(t *testing.T, b *bench) {
		job := b.accept(t)
		for _, worker := range []string{"gpu0", "gpu1", "gpu0"} {
			a := b.run(t, job.ID, worker)
			_, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptLost, At: b.now(), Fault: true})
			require.NoError(t, err)
		}
		a := b.claim(t, job.ID, "gpu2")
		_, err := b.RequeueAttempt(t.Context(), models.Requeue{AttemptID: a.ID, Attempt: models.AttemptReleased, At: b.now(), Cause: models.CauseTakenBack})
		require.NoError(t, err)
		view, err := b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []string{"gpu0", "gpu1"}, view.Jobs[0].Avoid)
	},
	"a priority moves a job and is an event": func(t *testing.T, b *bench) {
		b.accept(t)
		second := b.accept(t)
		got, err := b.SetPriority(t.Context(), b.tenant, second.ID, 10)
		require.NoError(t, err)
		require.Equal(t, b.job(t, second.ID), got)
		require.Equal(t, 10, got.Priority)
		again, err := b.SetPriority(t.Context(), "", second.ID, 10)
		require.NoError(t, err)
		require.Equal(t, got, again, "no second event")
		require.Equal(t, []string{"accepted", "priority"}, b.kinds(t, second.ID))
		view, err := b.Queue(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, []string{second.ID}, queued(view))
		_, err = b.SetPriority(t.Context(), b.tenant, second.ID, models.MaxPriority+1)
		requireCode(t, models.CodeInvalid, err)
		_, err = b.SetPriority(t.Context(), "tenant-b", second.ID, 1)
		requireCode(t, models.CodeNotFound, err)
		b.run(t, second.ID, "gpu0")
		_, err = b.SetPriority(t.Context(), b.tenant, second.ID, 1)
		requireCode(t, models.CodeConflict, err)
		requireName(t, "not_queued", err)
	},
	"a position counts those ahead": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		first, second, third := b.accept(t), b.accept(t), b.accept(t)
		b.accept(t, func(n *models.NewJob) { n.Job.TenantID = "tenant-b" })
		high := b.accept(t, func(n *models.NewJob) { n.Job.Priority = 1 })
		position := func(id string) int {
			n, err := b.QueuePosition(t.Context(), b.job(t, id))
			require.NoError(t, err)
			return n
		}
		require.Equal(t, 1, position(high.ID))
		require.Equal(t, 3, position(first.ID), "one of its own and one of the other tenant are ahead")
		require.Equal(t, 4, position(second.ID))
		require.Equal(t, 5, position(third.ID))
		a := b.claim(t, first.ID, "gpu0")
		require.Equal(t, 1, position(first.ID))
		require.NoError(t, b.AttemptStarted(t.Context(), a.ID, b.now(), false))
		require.Zero(t, position(first.ID))
	},
	"the oldest waiting job is told": func(t *testing.T, b *bench) {
		_, ok, err := b.OldestWaiting(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
		_, ok, err = b.OldestQueued(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
		claimed := b.accept(t)
		b.claim(t, claimed.ID, "gpu0")
		oldest := b.accept(t)
		b.accept(t)
		at, ok, err := b.OldestWaiting(t.Context())
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, oldest.CreatedAt, at)
		at, ok, err = b.OldestQueued(t.Context())
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, claimed.CreatedAt, at, "what a worker has next does not run yet")
	},
	"an empty queue is empty": func(t *testing.T, b *bench) {
		view, err := b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, view.Jobs)
		require.Empty(t, view.Tenants)
	},
}

func queued(view models.QueueView) (ids []string) {
	for _, job := range view.Jobs {
		ids = append(ids, job.ID)
	}
	return ids
}
