package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var webhookTests = map[string]func(*testing.T, *bench){
	"every end writes one delivery": func(t *testing.T, b *bench) {
		deadline := start.Add(time.Hour)
		hook := func(n *models.NewJob) { n.Job.WebhookURL = "https://a.example/hook"; n.Job.DeadlineAt = &deadline }
		done, canceled, expired, silent := b.accept(t, hook), b.accept(t, hook), b.accept(t, hook), b.accept(t)
		at := *b.succeed(t, done.ID).FinishedAt
		b.succeed(t, silent.ID)
		_, _, err := b.CancelJob(t.Context(), "", canceled.ID, b.now(), "")
		require.NoError(t, err)
		_, err = b.ExpireJobs(t.Context(), deadline, 10)
		require.NoError(t, err)
		for id, event := range map[string]string{done.ID: "job.completed", canceled.ID: "job.failed", expired.ID: "job.failed"} {
			list, err := b.DeliveriesOf(t.Context(), id)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, event, list[0].Event)
		}
		list, err := b.DeliveriesOf(t.Context(), done.ID)
		require.NoError(t, err)
		d := list[0]
		require.Regexp(t, `^msg_.+`, d.ID)
		require.Equal(t, models.Delivery{ID: d.ID, TenantID: b.tenant, JobID: done.ID, Event: "job.completed",
			URL: "https://a.example/hook", Payload: models.WebhookPayload("job.completed", done.ID, at),
			State: models.DeliveryPending, NextAt: &at, CreatedAt: at}, d)
		got, err := b.Delivery(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, d, got)
		none, err := b.DeliveriesOf(t.Context(), silent.ID)
		require.NoError(t, err)
		require.Empty(t, none)
	},
	"disabled webhooks are not written": func(t *testing.T, b *bench) {
		tenant, err := b.Tenant(t.Context(), b.tenant)
		require.NoError(t, err)
		tenant.WebhooksDisabledAt = ptr(start)
		require.NoError(t, b.UpdateTenant(t.Context(), tenant))
		job := b.accept(t, func(n *models.NewJob) { n.Job.WebhookURL = "https://a.example/hook" })
		b.succeed(t, job.ID)
		none, err := b.DeliveriesOf(t.Context(), job.ID)
		require.NoError(t, err)
		require.Empty(t, none)
	},
	"a delivery is due, retried, delivered and sent again": func(t *testing.T, b *bench) {
		_, ok, err := b.NextDelivery(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
		job := b.accept(t, func(n *models.NewJob) { n.Job.WebhookURL = "https://a.example/hook" })
		due := *b.succeed(t, job.ID).FinishedAt
		next, ok, err := b.NextDelivery(t.Context())
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, due, next)
		early, err := b.DueDeliveries(t.Context(), due.Add(-time.Microsecond), 10)
		require.NoError(t, err)
		require.Empty(t, early)
		list, err := b.DueDeliveries(t.Context(), due, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		id := list[0].ID

		retry := due.Add(5 * time.Second)
		first := models.DeliveryAttempt{DeliveryID: id, At: due, Status: 500, LatencyMS: 12, Error: "status 500", Answer: []byte("no")}
		require.NoError(t, b.RecordDelivery(t.Context(), first, models.DeliveryPending, &retry))
		requireCode(t, models.CodeConflict, b.RecordDelivery(t.Context(),
			models.DeliveryAttempt{DeliveryID: id, Number: 1, At: due}, models.DeliveryDelivered, nil))
		d, err := b.Delivery(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, 1, d.Attempts)
		require.Equal(t, retry, *d.NextAt)

		require.NoError(t, b.RecordDelivery(t.Context(), models.DeliveryAttempt{DeliveryID: id, At: retry, Status: 200},
			models.DeliveryDelivered, &retry))
		d, err = b.Delivery(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, models.DeliveryDelivered, d.State)
		require.Nil(t, d.NextAt)
		require.Equal(t, retry, *d.DoneAt)
		tries, err := b.DeliveryAttempts(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, tries, 2)
		first.Number = 1
		require.Equal(t, first, tries[0])
		require.Equal(t, 2, tries[1].Number)

		again := b.now()
		require.NoError(t, b.Redeliver(t.Context(), id, again))
		d, err = b.Delivery(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, models.DeliveryPending, d.State)
		require.Equal(t, again, *d.NextAt)
		require.Nil(t, d.DoneAt)
		requireCode(t, models.CodeNotFound, b.Redeliver(t.Context(), "nobody", again))
		requireCode(t, models.CodeNotFound, b.RecordDelivery(t.Context(), models.DeliveryAttempt{DeliveryID: "nobody"}, models.DeliveryFailed, nil))
	},
	"deliveries page newest first, also those of one moment": func(t *testing.T, b *bench) {
		b.addTenant(t, "tenant-b")
		at := b.now()
		for i := range 7 {
			job := b.accept(t, func(n *models.NewJob) {
				n.Job.WebhookURL = "https://a.example/hook"
				if i == 6 {
					n.Job.TenantID = "tenant-b"
				}
			})
			_, _, err := b.CancelJob(t.Context(), "", job.ID, at, "")
			require.NoError(t, err)
		}
		seen := map[string]bool{}
		before := ""
		for range 4 {
			page, err := b.Deliveries(t.Context(), b.tenant, before, 2)
			require.NoError(t, err)
			for _, d := range page {
				require.False(t, seen[d.ID])
				seen[d.ID] = true
				before = d.ID
			}
		}
		require.Len(t, seen, 6)
		all, err := b.Deliveries(t.Context(), "", "", 100)
		require.NoError(t, err)
		require.Len(t, all, 7)
	},
}
