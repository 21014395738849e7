package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var listTests = map[string]func(*testing.T, *bench){
	"pages go through all jobs once while new ones arrive": func(t *testing.T, b *bench) {
		var want []string
		for range 23 {
			want = append([]string{b.accept(t).ID}, want...)
		}
		var got []string
		page := models.Page{Limit: 5}
		for {
			p, err := b.Jobs(t.Context(), models.JobFilter{TenantID: b.tenant}, page)
			require.NoError(t, err)
			got = append(got, ids(p.Jobs)...)
			b.accept(t)
			if p.Next == 0 {
				break
			}
			page.Before = p.Next
		}
		require.Equal(t, want, got)
	},
	"a last page that is full has no next": func(t *testing.T, b *bench) {
		for range 4 {
			b.accept(t)
		}
		p, err := b.Jobs(t.Context(), models.JobFilter{}, models.Page{Limit: 4})
		require.NoError(t, err)
		require.Len(t, p.Jobs, 4)
		require.Zero(t, p.Next)
	},
	"an empty list is empty, not nil": func(t *testing.T, b *bench) {
		p, err := b.Jobs(t.Context(), models.JobFilter{TenantID: b.tenant}, models.Page{})
		require.NoError(t, err)
		require.NotNil(t, p.Jobs)
		require.Empty(t, p.Jobs)
	},
	"after a row come the ones just above it, newest first": func(t *testing.T, b *bench) {
		var jobs []models.Job
		for range 6 {
			jobs = append(jobs, b.accept(t))
		}
		p, err := b.Jobs(t.Context(), models.JobFilter{}, models.Page{After: jobs[1].Seq, Limit: 3})
		require.NoError(t, err)
		require.Equal(t, []string{jobs[4].ID, jobs[3].ID, jobs[2].ID}, ids(p.Jobs))
		require.Equal(t, jobs[2].Seq, p.Next)
		p, err = b.Jobs(t.Context(), models.JobFilter{}, models.Page{After: jobs[5].Seq})
		require.NoError(t, err)
		require.Empty(t, p.Jobs)
	},
	"filters choose": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		failed := b.accept(t, func(n *models.NewJob) { n.Job.WorkflowSlug = "wan" })
		a := b.run(t, failed.ID, "gpu7")
		_, err := b.FinishAttempt(t.Context(), models.Finish{AttemptID: a.ID, Attempt: models.AttemptFailed,
			Job: models.JobFailed, At: b.now(), ErrorCode: "node_exception"})
		require.NoError(t, err)
		done, other := b.accept(t), b.accept(t, func(n *models.NewJob) { n.Job.TenantID = "tenant-b" })
		b.succeed(t, done.ID)
		running := b.accept(t)
		b.run(t, running.ID, "sim0")
		queued := b.accept(t)
		for _, c := range []struct {
			name   string
			filter models.JobFilter
			want   []string
		}{
			{"tenant", models.JobFilter{TenantID: "tenant-b"}, []string{other.ID}},
			{"state", models.JobFilter{States: []models.JobState{models.JobRunning}}, []string{running.ID}},
			{"states of a tenant, in order of acceptance, one named twice", models.JobFilter{TenantID: b.tenant,
				States: []models.JobState{models.JobFailed, models.JobQueued, models.JobSucceeded, models.JobFailed}},
				[]string{queued.ID, done.ID, failed.ID}},
			{"worker", models.JobFilter{Worker: "gpu7"}, []string{failed.ID}},
			{"workflow", models.JobFilter{WorkflowSlug: "wan"}, []string{failed.ID}},
			{"error", models.JobFilter{ErrorCode: "node_exception"}, []string{failed.ID}},
			{"id prefix", models.JobFilter{IDPrefix: done.ID[:8]}, []string{done.ID}},
			{"created after", models.JobFilter{CreatedAfter: &running.CreatedAt}, []string{queued.ID}},
			{"created before, in another zone", models.JobFilter{CreatedBefore: ptr(done.CreatedAt.In(time.FixedZone("", -3600*9)))},
				[]string{failed.ID}},
			{"nothing", models.JobFilter{TenantID: b.tenant, Worker: "gpu7", WorkflowSlug: "other"}, []string{}},
		} {
			p, err := b.Jobs(t.Context(), c.filter, models.Page{})
			require.NoError(t, err, c.name)
			require.Equal(t, c.want, ids(p.Jobs), c.name)
		}
	},
	"pages over several states go through all": func(t *testing.T, b *bench) {
		var want []string
		for i := range 12 {
			job := b.accept(t)
			if i%3 == 0 {
				b.succeed(t, job.ID)
			}
			want = append([]string{job.ID}, want...)
		}
		filter := models.JobFilter{States: []models.JobState{models.JobQueued, models.JobSucceeded}}
		var got []string
		page := models.Page{Limit: 5}
		for {
			p, err := b.Jobs(t.Context(), filter, page)
			require.NoError(t, err)
			got = append(got, ids(p.Jobs)...)
			if p.Next == 0 {
				break
			}
			page.Before = p.Next
		}
		require.Equal(t, want, got)
	},
	"counts are by state": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		b.accept(t, func(n *models.NewJob) { n.Job.TenantID = "tenant-b" })
		b.succeed(t, b.accept(t).ID)
		b.run(t, b.accept(t).ID, "gpu0")
		b.accept(t)
		b.accept(t)
		counts, err := b.Counts(t.Context(), models.JobFilter{TenantID: b.tenant})
		require.NoError(t, err)
		require.Equal(t, map[models.JobState]int{models.JobQueued: 2, models.JobRunning: 1, models.JobSucceeded: 1,
			models.JobFailed: 0, models.JobCanceled: 0, models.JobExpired: 0}, counts)
		counts, err = b.Counts(t.Context(), models.JobFilter{States: []models.JobState{models.JobQueued}})
		require.NoError(t, err)
		require.Equal(t, map[models.JobState]int{models.JobQueued: 3}, counts)
	},
	"counts stop above the cap": func(t *testing.T, b *bench) {
		for range models.CountCap + 5 {
			b.accept(t)
		}
		counts, err := b.Counts(t.Context(), models.JobFilter{TenantID: b.tenant})
		require.NoError(t, err)
		require.Equal(t, models.CountCap+1, counts[models.JobQueued])
	},
	"events continue after a revision": func(t *testing.T, b *bench) {
		job := b.accept(t)
		b.run(t, job.ID, "gpu0")
		events, err := b.Events(t.Context(), job.ID, 2, 1)
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.EqualValues(t, 3, events[0].Rev)
		require.Equal(t, models.PhaseStaged, events[0].Phase)
		require.Equal(t, "gpu0", events[0].Worker)
		none, err := b.Events(t.Context(), "nobody", 0, 10)
		require.NoError(t, err)
		require.Empty(t, none)
	},
	"recent durations are those of succeeded jobs": func(t *testing.T, b *bench) {
		b.succeed(t, b.accept(t, func(n *models.NewJob) { n.Job.WorkflowSlug = "wan" }).ID)
		b.succeed(t, b.accept(t).ID)
		b.accept(t)
		ms, err := b.RecentDurations(t.Context(), "wan", 10)
		require.NoError(t, err)
		require.Equal(t, []int64{330}, ms)
		ms, err = b.RecentDurations(t.Context(), "", 10)
		require.NoError(t, err)
		require.Equal(t, []int64{330, 330}, ms)
		ms, err = b.RecentDurations(t.Context(), "", 1)
		require.NoError(t, err)
		require.Len(t, ms, 1)
	},
}

func ids(jobs []models.Job) []string {
	list := make([]string, 0, len(jobs))
	for _, job := range jobs {
		list = append(list, job.ID)
	}
	return list
}
