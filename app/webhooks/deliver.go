package webhooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"comfyfleet/app/outbound"
	"comfyfleet/models"
)

const (
	// answerLimit is how long an endpoint has to answer; Standard Webhooks suggest 15 to 30 s.
	answerLimit = 15 * time.Second
	// recordLimit bounds one write of an attempt, and recordTries how often it is tried. A message whose attempt could
	// not be written is due still, and would be sent again at once.
	recordLimit = 5 * time.Second
	recordTries = 10
	recordPause = 2 * time.Second
)

// deliver makes one attempt of d and records it. An attempt that the end of ctx cut off is not recorded: nobody knows
// whether it arrived, so the next run sends it again.
func (o *Outbox) deliver(ctx context.Context, d models.Delivery) {
	at := o.Now()
	attempt := models.DeliveryAttempt{DeliveryID: d.ID, Number: d.Attempts + 1, At: at}
	tenant, err := o.Store.Tenant(ctx, d.TenantID)
	if models.ErrorCode(err) == models.CodeNotFound {
		attempt.Error = "not sent: the tenant does not exist any more"
		o.record(ctx, d, attempt, models.DeliveryFailed, nil)
		return
	}
	if err != nil {
		o.Log.Error("webhooks: read tenant", "delivery", d.ID, "tenant", d.TenantID, "error", err)
		o.pause(ctx, storePause)
		return
	}
	if tenant.WebhooksDisabledAt != nil {
		attempt.Error = "not sent: the tenant's webhooks were disabled at " + tenant.WebhooksDisabledAt.UTC().Format(time.RFC3339)
		o.record(ctx, d, attempt, models.DeliveryFailed, nil)
		return
	}
	answer, err := o.send(ctx, tenant, d, at)
	if ctx.Err() != nil && answer.Status == 0 {
		return
	}
	attempt.Status, attempt.LatencyMS, attempt.Answer = answer.Status, answer.Latency.Milliseconds(), answer.Body
	attempt.Error = failure(answer, err)

	switch {
	case attempt.Error == "":
		o.record(ctx, d, attempt, models.DeliveryDelivered, nil)
	case answer.Status == http.StatusGone:
		o.disable(ctx, d)
		o.record(ctx, d, attempt, models.DeliveryFailed, nil)
	default:
		pause, again := pauseAfter(d.Attempts + 1)
		if !again {
			o.Log.Warn("webhook given up", "delivery", d.ID, "job", d.JobID, "tenant", d.TenantID, "error", attempt.Error)
			o.record(ctx, d, attempt, models.DeliveryFailed, nil)
			return
		}
		next := o.Now().Add(max(pause, min(answer.RetryAfter, maxAsked)))
		o.record(ctx, d, attempt, models.DeliveryPending, &next)
	}
}

func (o *Outbox) send(ctx context.Context, tenant models.Tenant, d models.Delivery, at time.Time) (outbound.Answer, error) {
	header, err := sign(tenant, d.ID, d.Payload, at)
	if err != nil {
		return outbound.Answer{}, err
	}
	return o.Client.Post(ctx, d.URL, header, d.Payload, answerLimit)
}

// failure says in words why an attempt did not count, "" when it did.
func failure(answer outbound.Answer, err error) string {
	var known *models.Error
	switch {
	case errors.As(err, &known):
		return known.Detail
	case err != nil:
		return err.Error()
	case answer.Status >= 200 && answer.Status < 300:
		return ""
	case answer.Status == http.StatusGone:
		return "answered 410 Gone: no more webhooks are sent for this tenant until they are enabled again"
	case answer.Status >= 300 && answer.Status < 400 && answer.Location != "":
		return fmt.Sprintf("answered %d, a redirect to %.300q: redirects are not followed", answer.Status, answer.Location)
	default:
		return fmt.Sprintf("answered %d %s", answer.Status, http.StatusText(answer.Status))
	}
}

// disable stops a tenant's webhooks: its endpoint asked for it. Nothing else of the tenant is written: an operator may
// have changed it while the endpoint took its time.
func (o *Outbox) disable(ctx context.Context, d models.Delivery) {
	if err := o.Store.DisableWebhooks(ctx, d.TenantID, o.Now()); err != nil {
		// The next message gets another 410.
		o.Log.Error("webhooks: disable after 410", "tenant", d.TenantID, "error", err)
		return
	}
	o.Log.Warn("webhooks disabled: endpoint answered 410 Gone", "tenant", d.TenantID, "delivery", d.ID)
}

// record writes an attempt. It outlives ctx: what was sent should be known.
func (o *Outbox) record(ctx context.Context, d models.Delivery, a models.DeliveryAttempt, state models.DeliveryState, next *time.Time) {
	for range recordTries {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
		err := o.Store.RecordDelivery(limited, a, state, next)
		cancel()
		switch code := models.ErrorCode(err); {
		case err == nil,
			code == models.CodeNotFound, // swept with its job meanwhile
			code == models.CodeConflict: // a try before was written although nobody waited for it any more
			return
		}
		o.Log.Error("webhooks: record attempt", "delivery", d.ID, "error", err)
		if !o.pause(ctx, recordPause) {
			return
		}
	}
}

// pause waits; false means that ctx ended.
func (o *Outbox) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
