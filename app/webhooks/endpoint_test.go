package webhooks_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
	"comfyfleet/models"
)

// These tests send over real sockets; what takes hours is in outbox_test.go.

func loopback(t *testing.T) *outbound.Client {
	t.Helper()
	c := outbound.New(outbound.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, UserAgent: "comfyfleet/test"})
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// attempted waits until a delivery was tried n times.
func attempted(t *testing.T, b *bench, id string, n int) (models.Delivery, models.DeliveryAttempt) {
	t.Helper()
	require.Eventually(t, func() bool { return b.delivery(t, id).Attempts >= n }, 30*time.Second, 5*time.Millisecond)
	list := b.attempts(t, id)
	require.Len(t, list, n)
	return b.delivery(t, id), list[n-1]
}

func TestReceiverCanVerifyWhatArrives(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	hook, err := standardwebhooks.NewWebhook(b.tenant.WebhookSecret)
	require.NoError(t, err)
	type arrival struct {
		verified error
		body     string
		header   http.Header
	}
	arrivals := make(chan arrival, 1)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrivals <- arrival{hook.Verify(body, r.Header), string(body), r.Header}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thanks")
	})
	o := newOutbox(b, loopback(t))
	stop := start(t, o)
	defer stop()
	d := b.owe(t, url+"/hook")
	o.Wake()

	got := <-arrivals
	require.NoError(t, got.verified)
	assert.Equal(t, string(d.Payload), got.body)
	assert.Equal(t, d.ID, got.header.Get("webhook-id"))
	assert.Equal(t, "application/json", got.header.Get("Content-Type"))
	after, a := attempted(t, b, d.ID, 1)
	assert.Equal(t, models.DeliveryDelivered, after.State)
	assert.NotNil(t, after.DoneAt)
	assert.Equal(t, 202, a.Status)
	assert.Equal(t, "thanks", string(a.Answer))
	assert.Empty(t, a.Error)
}

func TestWhatAnEndpointMayDoWrongIsRecorded(t *testing.T) {
	var followed atomic.Int32
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	long := strings.Repeat("e", 9000)
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		url    string
		status int
		words  string
		answer string
	}{
		"error":        {handle: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, 503) }, status: 503, words: "answered 503", answer: long[:4096]},
		"not found":    {handle: http.NotFound, status: 404, words: "answered 404", answer: "404 page not found\n"},
		"redirect":     {handle: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, 307) }, status: 307, words: elsewhere},
		"hangs up":     {handle: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, words: "connection"},
		"inside":       {url: "http://10.0.0.1/hook", words: "not allowed"},
		"not a server": {url: "http://127.0.0.1:1/hook", words: "connection"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			defer b.Close()
			url := c.url
			if c.handle != nil {
				url = serve(t, c.handle)
			}
			d := b.owe(t, url)
			stop := start(t, still(b, loopback(t)))
			defer stop()
			after, a := attempted(t, b, d.ID, 1)
			assert.Equal(t, models.DeliveryPending, after.State)
			require.NotNil(t, after.NextAt)
			assert.GreaterOrEqual(t, after.NextAt.Sub(a.At), 5*time.Second, "the next try is not at once")
			assert.Equal(t, c.status, a.Status)
			assert.Contains(t, a.Error, c.words)
			if c.answer != "" {
				assert.Equal(t, c.answer, string(a.Answer))
			}
		})
	}
	assert.Zero(t, followed.Load())
}

func TestStatusCountsAlthoughTheBodyDrips(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "begins, and then")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	d := b.owe(t, url)
	stop := start(t, still(b, loopback(t)))
	defer stop()
	after, a := attempted(t, b, d.ID, 1)
	assert.Equal(t, models.DeliveryDelivered, after.State)
	assert.Equal(t, "begins, and then", string(a.Answer))
}

func TestGoneChangesNothingElseOfTheTenant(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		suspended, at := b.tenant, now() // by an operator, while the endpoint thinks
		suspended.SuspendedAt = &at
		assert.NoError(t, b.UpdateTenant(r.Context(), suspended))
		w.WriteHeader(http.StatusGone)
	})
	d := b.owe(t, url)
	stop := start(t, still(b, loopback(t)))
	defer stop()
	attempted(t, b, d.ID, 1)
	tenant, err := b.Tenant(t.Context(), b.tenant.ID)
	require.NoError(t, err)
	assert.NotNil(t, tenant.WebhooksDisabledAt)
	assert.NotNil(t, tenant.SuspendedAt, "the suspension is not undone")
}

func TestGoneDisablesTheTenantsWebhooks(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	var calls atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); w.WriteHeader(http.StatusGone) })
	first := b.owe(t, url)
	second := b.owe(t, "http://10.0.0.1/hook") // fails on its own account
	o := still(b, loopback(t))
	stop := start(t, o)
	defer stop()

	after, a := attempted(t, b, first.ID, 1)
	assert.Equal(t, models.DeliveryFailed, after.State)
	assert.Equal(t, http.StatusGone, a.Status)
	tenant, err := b.Tenant(t.Context(), b.tenant.ID)
	require.NoError(t, err)
	require.NotNil(t, tenant.WebhooksDisabledAt)

	attempted(t, b, second.ID, 1)
	require.NoError(t, o.Redeliver(t.Context(), "", second.ID))
	after, a = attempted(t, b, second.ID, 2)
	assert.Equal(t, models.DeliveryFailed, after.State)
	assert.Contains(t, a.Error, "disabled")

	tenant.WebhooksDisabledAt = nil
	require.NoError(t, b.UpdateTenant(t.Context(), tenant))
	require.NoError(t, o.Redeliver(t.Context(), "", first.ID))
	attempted(t, b, first.ID, 2)
	assert.EqualValues(t, 2, calls.Load(), "once enabled it is sent again")
}

func TestTenantWithoutASecretIsRecordedNotSent(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	b.tenant.WebhookSecret = ""
	require.NoError(t, b.UpdateTenant(t.Context(), b.tenant))
	var calls atomic.Int32
	d := b.owe(t, serve(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	stop := start(t, still(b, loopback(t)))
	defer stop()
	after, a := attempted(t, b, d.ID, 1)
	assert.Equal(t, models.DeliveryPending, after.State)
	assert.Contains(t, a.Error, "no signing secret")
	assert.Zero(t, calls.Load())
}
