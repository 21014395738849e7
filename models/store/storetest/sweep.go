package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var sweepTests = map[string]func(*testing.T, *bench){
	"old finished jobs go with all they have, others stay": func(t *testing.T, b *bench) {
		media := b.id()
		old := b.accept(t, func(n *models.NewJob) {
			n.Job.WebhookURL = "https://a.example/hook"
			n.Idempotency = &models.Idempotency{Key: "k", Fingerprint: "f", Until: time.Now().Add(time.Hour)}
			n.Assets = []models.Asset{{ID: media}}
			n.Payload.Media = []models.MediaRef{{Name: "x.png", AssetID: media}}
		})
		b.succeed(t, old.ID, "out1", "out2")
		deliveries, err := b.DeliveriesOf(t.Context(), old.ID)
		require.NoError(t, err)
		require.NoError(t, b.RecordDelivery(t.Context(), models.DeliveryAttempt{DeliveryID: deliveries[0].ID, At: b.now()},
			models.DeliveryDelivered, nil))
		attempts, err := b.Attempts(t.Context(), old.ID)
		require.NoError(t, err)
		young, waits := b.accept(t), b.accept(t)
		limit := b.now()
		b.succeed(t, young.ID, "out3")
		assets, jobs, err := b.SweepJobs(t.Context(), limit, 10)
		require.NoError(t, err)
		require.Equal(t, 1, jobs)
		require.ElementsMatch(t, []string{media, "out1", "out2"}, assets)
		for _, gone := range []func() error{
			func() error { _, err := b.Job(t.Context(), "", old.ID); return err },
			func() error { _, err := b.Payload(t.Context(), old.ID); return err },
			func() error { _, err := b.Asset(t.Context(), media); return err },
			func() error { _, err := b.Output(t.Context(), "out1"); return err },
			func() error { _, err := b.Attempt(t.Context(), attempts[0].ID); return err },
			func() error { _, err := b.Delivery(t.Context(), deliveries[0].ID); return err },
			func() error { _, _, err := b.LookupIdempotency(t.Context(), b.tenant, "k"); return err },
		} {
			requireCode(t, models.CodeNotFound, gone())
		}
		events, err := b.Events(t.Context(), old.ID, 0, 10)
		require.NoError(t, err)
		require.Empty(t, events)
		b.job(t, young.ID)
		b.job(t, waits.ID)
		_, err = b.Output(t.Context(), "out3")
		require.NoError(t, err)
		usage, err := b.UsageOf(t.Context(), b.tenant, "2026-11-24", "2026-11-24")
		require.NoError(t, err)
		require.EqualValues(t, 2, usage[0].Jobs, "usage outlives the jobs")
	},
	"a medium that another job uses stays until that one goes": func(t *testing.T, b *bench) {
		media := b.id()
		refs := []models.MediaRef{{Name: "x.png", AssetID: media}}
		first := b.accept(t, func(n *models.NewJob) {
			n.Assets = []models.Asset{{ID: media}}
			n.Payload.Media = refs
		})
		again := b.accept(t, func(n *models.NewJob) { n.Payload.Media = refs })
		b.succeed(t, first.ID)
		assets, jobs, err := b.SweepJobs(t.Context(), b.now(), 10)
		require.NoError(t, err)
		require.Equal(t, 1, jobs)
		require.Empty(t, assets)
		_, err = b.Asset(t.Context(), media)
		require.NoError(t, err)
		b.succeed(t, again.ID)
		assets, _, err = b.SweepJobs(t.Context(), b.now(), 10)
		require.NoError(t, err)
		require.Equal(t, []string{media}, assets)
		_, err = b.Asset(t.Context(), media)
		requireCode(t, models.CodeNotFound, err)
	},
	"an output used as a medium outlives its job": func(t *testing.T, b *bench) {
		first := b.accept(t)
		b.succeed(t, first.ID, "out1")
		b.accept(t, func(n *models.NewJob) { n.Payload.Media = []models.MediaRef{{Name: "x.png", AssetID: "out1"}} })
		assets, jobs, err := b.SweepJobs(t.Context(), b.now(), 10)
		require.NoError(t, err)
		require.Equal(t, 1, jobs)
		require.Empty(t, assets)
		_, err = b.Asset(t.Context(), "out1")
		require.NoError(t, err)
	},
	"a sweep stops at its limit, oldest first": func(t *testing.T, b *bench) {
		var jobs []models.Job
		for range 7 {
			job := b.accept(t)
			_, _, err := b.CancelJob(t.Context(), "", job.ID, b.now(), "")
			require.NoError(t, err)
			jobs = append(jobs, job)
		}
		_, n, err := b.SweepJobs(t.Context(), b.now(), 3)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = b.Job(t.Context(), "", jobs[2].ID)
		requireCode(t, models.CodeNotFound, err)
		b.job(t, jobs[3].ID)
		_, n, err = b.SweepJobs(t.Context(), b.now(), 1000)
		require.NoError(t, err)
		require.Equal(t, 4, n)
	},
	"a swept seq is not given again": func(t *testing.T, b *bench) {
		job := b.accept(t)
		b.succeed(t, job.ID)
		_, _, err := b.SweepJobs(t.Context(), b.now(), 10)
		require.NoError(t, err)
		b.again(t)
		require.Greater(t, b.accept(t).Seq, job.Seq)
	},
}
