package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var acceptTests = map[string]func(*testing.T, *bench){
	"a job reads back as it was accepted, after reopening too": func(t *testing.T, b *bench) {
		deadline := time.Date(2026, 11, 24, 1, 0, 0, 123_456_789, time.FixedZone("", 7200))
		n := b.newJob(func(n *models.NewJob) {
			n.Job.KeyID, n.Job.Priority, n.Job.WorkflowSlug, n.Job.WorkflowVersion = "key", -7, "wan", 3
			n.Job.DeadlineAt, n.Job.WebhookURL, n.Job.Metadata = &deadline, "https://a.example/hook", `{"a":1}`
		})
		job, _, err := b.AcceptJob(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, models.JobQueued, job.State)
		require.Equal(t, models.PhaseWaiting, job.Phase)
		require.EqualValues(t, 1, job.Revision)
		require.Positive(t, job.Seq)
		require.Equal(t, deadline.UTC().Truncate(time.Microsecond), *job.DeadlineAt)
		require.Equal(t, job, b.job(t, job.ID))
		b.again(t)
		require.Equal(t, job, b.job(t, job.ID))
		require.Equal(t, []string{models.EventAccepted}, b.kinds(t, job.ID))
	},
	"a job accepted with an attempt is as one that was accepted and then claimed": func(t *testing.T, b *bench) {
		waited := b.accept(t)
		a, claimed, err := b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: waited.ID, Worker: "sim0",
			PlacedBecause: "it was idle", CreatedAt: b.now()})
		require.NoError(t, err)

		n := b.newJob()
		n.Attempt = &models.Attempt{ID: b.id(), Worker: "sim1", PlacedBecause: "it was idle", CreatedAt: b.now()}
		job, _, err := b.AcceptJob(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, job, b.job(t, job.ID))
		require.Equal(t, n.Attempt.ID, job.AttemptID)
		require.Equal(t, b.kinds(t, waited.ID), b.kinds(t, job.ID))
		require.NoError(t, b.Fence(t.Context(), job.ID, job.AttemptID))

		got := b.attempt(t, job.AttemptID)
		claimed.ID, claimed.Seq, claimed.CreatedAt = job.ID, job.Seq, job.CreatedAt
		claimed.AttemptID, claimed.PromptID, claimed.Worker = got.ID, got.ID, got.Worker
		require.Equal(t, claimed, job)
		a.ID, a.JobID, a.Worker, a.CreatedAt = got.ID, job.ID, got.Worker, got.CreatedAt
		require.Equal(t, a, got)

		view, err := b.Queue(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, view.Jobs)
		require.Equal(t, 2, view.Tenants[b.tenant].Claimed)
		require.NoError(t, b.VerifyCounters(t.Context()))
		_, _, err = b.Claim(t.Context(), models.Attempt{ID: b.id(), JobID: job.ID, Worker: "sim2"})
		require.ErrorIs(t, err, models.ErrFenced)
	},
	"a payload reads back byte for byte": func(t *testing.T, b *bench) {
		media := []models.MediaRef{
			{Name: `C:\Users\me\x.png`, AssetID: b.id(), Size: 5, SHA256: "aa", ContentType: "image/png"},
			{Name: "a/b.png", AssetID: b.id(), Size: 6, SHA256: "bb", ContentType: "image/png"},
		}
		want := models.JobPayload{Graph: make([]byte, 70_000), Inputs: []byte(`{"inputs":[]}`),
			ExtraPNGInfo: []byte(`{"workflow":{}}`), Media: media}
		for i := range want.Graph {
			want.Graph[i] = byte(i * i >> 3)
		}
		job := b.accept(t, func(n *models.NewJob) {
			n.Payload = want
			for _, m := range media {
				n.Assets = append(n.Assets, models.Asset{ID: m.AssetID, Size: m.Size, SHA256: m.SHA256, ContentType: m.ContentType})
			}
		})
		want.JobID = job.ID
		got, err := b.Payload(t.Context(), job.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		asset, err := b.Asset(t.Context(), media[1].AssetID)
		require.NoError(t, err)
		require.Equal(t, models.Asset{ID: media[1].AssetID, TenantID: b.tenant, JobID: job.ID, Kind: models.AssetMedia,
			Size: 6, SHA256: "bb", ContentType: "image/png", CreatedAt: job.CreatedAt}, asset)
	},
	"a job without media or inputs has none": func(t *testing.T, b *bench) {
		p, err := b.Payload(t.Context(), b.accept(t).ID)
		require.NoError(t, err)
		require.Empty(t, p.Media)
		require.Empty(t, p.Inputs)
		require.Empty(t, p.ExtraPNGInfo)
	},
	"another tenant's job is not found, an operator's look is": func(t *testing.T, b *bench) {
		job := b.accept(t)
		_, err := b.Job(t.Context(), "tenant-b", job.ID)
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Job(t.Context(), "", job.ID)
		require.NoError(t, err)
		_, err = b.Payload(t.Context(), "nobody")
		requireCode(t, models.CodeNotFound, err)
	},
	"a job id is unique": func(t *testing.T, b *bench) {
		job := b.accept(t)
		_, _, err := b.AcceptJob(t.Context(), b.newJob(func(n *models.NewJob) { n.Job.ID = job.ID }))
		requireCode(t, models.CodeConflict, err)
	},
	"a job of an unknown tenant is refused": func(t *testing.T, b *bench) {
		_, _, err := b.AcceptJob(t.Context(), b.newJob(func(n *models.NewJob) { n.Job.TenantID = "nobody" }))
		require.Error(t, err)
	},
	"the same request under one key gives the first job": func(t *testing.T, b *bench) {
		idem := &models.Idempotency{Key: "k", Fingerprint: "f", Until: start.Add(time.Hour)}
		first := b.accept(t, func(n *models.NewJob) { n.Idempotency = idem })
		b.again(t)
		b.claim(t, first.ID, "sim0")
		second, replayed, err := b.AcceptJob(t.Context(), b.newJob(func(n *models.NewJob) { n.Idempotency = idem }))
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, b.job(t, first.ID), second, "as it stands now")
	},
	"another request under a known key is refused": func(t *testing.T, b *bench) {
		b.accept(t, func(n *models.NewJob) {
			n.Idempotency = &models.Idempotency{Key: "k", Fingerprint: "f", Until: start.Add(time.Hour)}
		})
		_, _, err := b.AcceptJob(t.Context(), b.newJob(func(n *models.NewJob) {
			n.Idempotency = &models.Idempotency{Key: "k", Fingerprint: "g", Until: start.Add(time.Hour)}
		}))
		requireCode(t, models.CodeUnprocessed, err)
		requireName(t, "idempotency_mismatch", err)
	},
	"keys are per tenant and expire": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		idem := &models.Idempotency{Key: "k", Fingerprint: "f", Until: start.Add(time.Minute)}
		b.accept(t, func(n *models.NewJob) { n.Idempotency = idem })
		b.accept(t, func(n *models.NewJob) { n.Idempotency = idem; n.Job.TenantID = "tenant-b" })
		b.at = start.Add(time.Minute)
		later := &models.Idempotency{Key: "k", Fingerprint: "other", Until: start.Add(time.Hour)}
		b.accept(t, func(n *models.NewJob) { n.Idempotency = later })
	},
	"a live key can be looked up, an expired or unknown one not": func(t *testing.T, b *bench) {
		live := time.Now().Add(time.Hour)
		job := b.accept(t, func(n *models.NewJob) {
			n.Idempotency = &models.Idempotency{Key: "k", Fingerprint: "f", Until: live}
		})
		fingerprint, got, err := b.LookupIdempotency(t.Context(), b.tenant, "k")
		require.NoError(t, err)
		require.Equal(t, "f", fingerprint)
		require.Equal(t, job, got)
		_, _, err = b.LookupIdempotency(t.Context(), "tenant-b", "k")
		requireCode(t, models.CodeNotFound, err)
		b.accept(t, func(n *models.NewJob) {
			n.Idempotency = &models.Idempotency{Key: "old", Fingerprint: "f", Until: time.Now().Add(-time.Minute)}
		})
		_, _, err = b.LookupIdempotency(t.Context(), b.tenant, "old")
		requireCode(t, models.CodeNotFound, err)
	},
	"a refused request consumes no key and leaves nothing": func(t *testing.T, b *bench) {
		idem := &models.Idempotency{Key: "k", Fingerprint: "f", Until: start.Add(time.Hour)}
		n := b.newJob(func(n *models.NewJob) {
			n.Idempotency = idem
			n.Payload.Media = []models.MediaRef{{Name: "x", AssetID: "gone"}}
			n.Assets = []models.Asset{{ID: "other"}}
		})
		_, _, err := b.AcceptJob(t.Context(), n)
		requireCode(t, models.CodeUnprocessed, err)
		requireName(t, "media_gone", err)
		_, err = b.Job(t.Context(), "", n.Job.ID)
		requireCode(t, models.CodeNotFound, err)
		_, err = b.Asset(t.Context(), "other")
		requireCode(t, models.CodeNotFound, err)
		b.accept(t, func(n *models.NewJob) { n.Idempotency = idem })
	},
	"a full queue is refused, a claimed job makes room": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		capped := func(n *models.NewJob) { n.MaxQueuedTenant = 2 }
		first := b.accept(t, capped)
		b.accept(t, capped)
		_, _, err := b.AcceptJob(t.Context(), b.newJob(capped))
		requireCode(t, models.CodeLimited, err)
		requireName(t, "queue_full", err)
		b.claim(t, first.ID, "sim0")
		b.accept(t, capped)
		_, _, err = b.AcceptJob(t.Context(), b.newJob(func(n *models.NewJob) { n.MaxQueued = 2; n.Job.TenantID = "tenant-b" }))
		requireCode(t, models.CodeLimited, err)
		b.accept(t, func(n *models.NewJob) { n.MaxQueued = 3; n.Job.TenantID = "tenant-b" })
	},
}
