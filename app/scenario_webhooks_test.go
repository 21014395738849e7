package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// TestNoWebhookIsLostToAKill kills the server while jobs end and their webhooks are on their way. Every job is told to
// its endpoint, under one id however often.
func TestNoWebhookIsLostToAKill(t *testing.T) {
	t.Parallel()
	const jobs, kills = 30, 4
	hooks := newReceiver(t)
	s := startServer(t, quick, allowLoopback, "COMFYFLEET_LOG_LEVEL=info")
	verify := s.verifier()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	var ids []string
	for i := range jobs {
		request := steps(2, 0.05, i)
		request["webhook_url"] = hooks.URL + fmt.Sprint("/", i)
		ids = append(ids, s.submit(request))
	}
	for _, ended := range moments(dice, kills, jobs-5) {
		s.eventually(func() bool { return len(s.list(testKey, "?limit=100&status=completed")) >= ended }, "%d jobs ended", ended)
		s.kill()
		s.start()
	}
	for i, id := range ids {
		s.completed(id)
		messages := hooks.at(t, fmt.Sprint("/", i), 1)
		for _, m := range messages {
			require.NoError(t, verify.Verify(m.body, m.header))
			require.Contains(t, string(m.body), id)
			require.Equal(t, messages[0].header.Get("webhook-id"), m.header.Get("webhook-id"))
		}
	}
	s.delivered()
	s.stop()
	s.withStore(func(st *store.Store) {
		for _, id := range ids {
			list, err := st.DeliveriesOf(t.Context(), id)
			require.NoError(t, err)
			require.Len(t, list, 1, "one message for job %s", id)
			require.Equal(t, models.DeliveryDelivered, list[0].State)
		}
	})
}

// verifier checks signatures as a customer does, with the secret of the default tenant.
func (s *testServer) verifier() *standardwebhooks.Webhook {
	s.t.Helper()
	var tenant models.Tenant
	s.runJSON(&tenant, "tenants", "show", "default")
	verify, err := standardwebhooks.NewWebhook(tenant.WebhookSecret)
	require.NoError(s.t, err)
	return verify
}

// TestAKillBetweenTheEndAndItsWebhookLosesNothing kills the server at the two worst moments: when a job has ended and
// its endpoint cannot be reached yet, and when the endpoint has the message and has not answered.
func TestAKillBetweenTheEndAndItsWebhookLosesNothing(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	arrived, hold := make(chan message, 10), make(chan struct{})
	held := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		arrived <- message{r.URL.Path, r.Header, body}
		select {
		case <-hold:
		case <-r.Context().Done(): // its sender was killed
		}
	}))
	defer held.Close()
	s := startServer(t, quick, allowLoopback)
	submit := func(url string, seed int) string {
		request := steps(1, 0, seed)
		request["webhook_url"] = url
		return s.submit(request)
	}
	unreachable := submit("http://"+address+"/", 1)
	s.completed(unreachable)
	waiting := submit(held.URL, 2)
	first := <-arrived
	require.Contains(t, string(first.body), waiting)
	require.Equal(t, "completed", s.job(waiting).Status)
	s.kill()

	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	late := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- message{"late", r.Header, body}
	})}}
	late.Start()
	defer late.Close()
	close(hold)
	s.start()
	for range 2 {
		select {
		case m := <-arrived:
			if m.path == "late" {
				require.Contains(t, string(m.body), unreachable)
				continue
			}
			require.Equal(t, first.body, m.body)
			require.Equal(t, first.header.Get("webhook-id"), m.header.Get("webhook-id"), "the receiver can tell that it has it")
		case <-time.After(patience):
			require.Fail(t, "a message is lost")
		}
	}
}

// TestEndpointsThatMisbehave has one that never answers, one whose answer never ends, and one that wants no more.
func TestEndpointsThatMisbehave(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tries := map[string]int{}
	stop, end := context.WithCancel(t.Context())
	defer end()
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		tries[r.URL.Path]++
		first := tries[r.URL.Path] == 1
		mu.Unlock()
		gone := r.Context().Done()
		switch {
		case r.URL.Path == "/gone":
			w.WriteHeader(http.StatusGone)
		case r.URL.Path == "/silent" && first:
			select {
			case <-gone:
			case <-stop.Done():
			}
		case r.URL.Path == "/drips":
			w.Header().Set("Content-Length", "1000000")
			drip := time.NewTicker(50 * time.Millisecond)
			defer drip.Stop()
			for {
				if _, err := w.Write([]byte(".")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-drip.C:
				case <-gone:
					return
				case <-stop.Done():
					return
				}
			}
		}
	}))
	defer hooks.Close()
	defer end() // before it waits for its handlers

	s := startServer(t, quick, allowLoopback)
	quiet := s.newTenant("quiet").Key
	submit := func(key, path string, seed int) string {
		request := steps(1, 0, seed)
		request["webhook_url"] = hooks.URL + path
		a := s.call("POST", "/v1/jobs", key, request)
		require.Equal(t, 200, a.status, "%s", a.body)
		var made jobStatus
		a.json(t, &made)
		return made.JobID
	}
	silent, drips, gone := submit(testKey, "/silent", 1), submit(testKey, "/drips", 2), submit(quiet, "/gone", 3)
	disabled := func() bool {
		var tenant models.Tenant
		s.runJSON(&tenant, "tenants", "show", "quiet")
		return tenant.WebhooksDisabledAt != nil
	}
	s.eventually(disabled, "410 turns the tenant's webhooks off")
	unsent := submit(quiet, "/more", 4)
	s.eventually(func() bool {
		var job jobStatus
		s.call("GET", "/v1/jobs/"+unsent+"?data=none", quiet, nil).json(t, &job)
		return job.Status == "completed"
	}, "the job of a tenant without webhooks")
	s.eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tries["/silent"] == 2
	}, "a message that was not answered is sent again")
	_, err := s.run("tenants", "set", "quiet", "webhooks=on")
	require.NoError(t, err)
	require.False(t, disabled())
	again := submit(quiet, "/again", 5)
	s.eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tries["/again"] == 1
	}, "webhooks are sent again once they are turned on")

	s.delivered()
	s.stop()
	s.requireTries(silent, models.DeliveryDelivered, 0, 200)
	s.requireTries(drips, models.DeliveryDelivered, 200)
	s.requireTries(gone, models.DeliveryFailed, 410)
	s.withStore(func(st *store.Store) {
		list, err := st.DeliveriesOf(t.Context(), unsent)
		require.NoError(t, err)
		require.Empty(t, list, "nothing is owed while webhooks are off")
	})
	s.requireTries(again, models.DeliveryDelivered, 200)
	require.Equal(t, map[string]int{"/silent": 2, "/drips": 1, "/gone": 1, "/again": 1}, tries)
}

// requireTries holds a job's message to what became of it and to the answers that it got, 0 for none.
func (s *testServer) requireTries(job string, state models.DeliveryState, statuses ...int) {
	s.t.Helper()
	s.withStore(func(st *store.Store) {
		list, err := st.DeliveriesOf(s.t.Context(), job)
		require.NoError(s.t, err)
		require.Len(s.t, list, 1)
		require.Equal(s.t, state, list[0].State)
		tries, err := st.DeliveryAttempts(s.t.Context(), list[0].ID)
		require.NoError(s.t, err)
		var got []int
		for _, try := range tries {
			got = append(got, try.Status)
		}
		require.Equal(s.t, statuses, got, "%s", mustJSON(s.t, tries))
	})
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// freeAddress is an address that a server can listen on, again and again.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
