package outbound_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
)

func TestPostSendsExactlyWhatItIsGiven(t *testing.T) {
	var got atomic.Value
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store([]string{r.Method, r.Header.Get("webhook-id"), r.Header.Get("Content-Type"), r.UserAgent(), string(body), r.Header.Get("Content-Length")})
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, strings.Repeat("y", 10_000))
	})
	a, err := loopback(t).Post(t.Context(), url, http.Header{"Webhook-Id": {"msg_1"}, "Content-Type": {"application/json"}}, []byte(`{"a":1}`), time.Minute)
	require.NoError(t, err)
	assert.Equal(t, 202, a.Status)
	assert.Equal(t, strings.Repeat("y", 4096), string(a.Body))
	assert.Positive(t, a.Latency)
	assert.Equal(t, []string{"POST", "msg_1", "application/json", "comfyfleet/test", `{"a":1}`, "7"}, got.Load())
}

func TestPostFollowsNoRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	target := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, status) })
		a, err := loopback(t).Post(t.Context(), url, nil, []byte("{}"), time.Minute)
		require.NoError(t, err)
		assert.Equal(t, status, a.Status)
		assert.Equal(t, target, a.Location)
	}
	assert.Zero(t, elsewhere.Load())
}

func TestPostGivesUpAfterItsTimeout(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	a, err := loopback(t).Post(t.Context(), url, nil, []byte("{}"), 50*time.Millisecond)
	requireProblem(t, err, "fetch_failed", "did not answer within 50ms")
	assert.Positive(t, a.Latency)
	assert.Zero(t, a.Status)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = loopback(t).Post(ctx, url, nil, nil, time.Minute)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestPostTakesTheStatusOfAnAnswerWhoseBodyDrips(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "the beginning")
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	c := loopback(t)
	var a outbound.Answer
	var err error
	for limit := 100 * time.Millisecond; len(a.Body) == 0 && limit < time.Minute; limit *= 10 { // a stalled server begins too late for a short one
		a, err = c.Post(t.Context(), url, nil, []byte("{}"), limit)
	}
	require.NoError(t, err)
	assert.Equal(t, 200, a.Status)
	assert.Equal(t, "the beginning", string(a.Body))
}

func TestPostRefusesInternalAddresses(t *testing.T) {
	_, err := loopback(t).Post(t.Context(), "http://10.0.0.1/hook", nil, []byte("{}"), time.Minute)
	requireProblem(t, err, "address_refused", "")
	_, err = loopback(t).Post(t.Context(), "ftp://example.com/hook", nil, []byte("{}"), time.Minute)
	requireProblem(t, err, "bad_url", "")
}
