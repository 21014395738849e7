package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// allowLoopback lets media and webhooks reach the test's own servers at 127.0.0.1, and nothing else that is private.
const allowLoopback = "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.1/32"

// message is a webhook as it arrived.
type message struct {
	path   string
	header http.Header
	body   []byte
}

// receiver is a customer's webhook endpoint. The first message at /redirects is answered with a redirect, the first at
// /fails with an error; every other one is taken.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	messages []message
	refused  map[string]bool
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{refused: map[string]bool{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, message{req.URL.Path, req.Header, body})
	first := !r.refused[req.URL.Path]
	r.refused[req.URL.Path] = true
	switch {
	case first && req.URL.Path == "/redirects":
		http.Redirect(w, req, "/elsewhere", http.StatusTemporaryRedirect)
	case first && req.URL.Path == "/fails":
		http.Error(w, "come back later", http.StatusInternalServerError)
	}
}

// at waits for so many messages at a path.
func (r *receiver) at(t *testing.T, path string, n int) (got []message) {
	t.Helper()
	deadline, look := time.Now().Add(patience), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for {
		got = nil
		r.mu.Lock()
		for _, m := range r.messages {
			if m.path == path {
				got = append(got, m)
			}
		}
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		require.True(t, time.Now().Before(deadline), "%d messages at %s", len(got), path)
		<-look.C
	}
}

func testWebhooksArrive(t *testing.T) {
	hooks := newReceiver(t)
	s := startServer(t, quick, allowLoopback)
	submit := func(path string, graph map[string]any) string {
		graph["webhook_url"] = hooks.URL + path
		return s.submit(graph)
	}
	good, bad := submit("/redirects", steps(1, 0, 1)), submit("/fails", steps(-1, 0, 1))
	var tenant models.Tenant
	s.runJSON(&tenant, "tenants", "show", "default")
	verify, err := standardwebhooks.NewWebhook(tenant.WebhookSecret)
	require.NoError(t, err)

	deliveries := map[string]string{} // message id by path
	for path, want := range map[string]struct{ event, job string }{
		"/redirects": {"job.completed", good}, "/fails": {"job.failed", bad},
	} {
		tries := hooks.at(t, path, 2)
		for _, m := range tries {
			require.NoError(t, verify.Verify(m.body, m.header), "signature")
			require.Equal(t, tries[0].header.Get("webhook-id"), m.header.Get("webhook-id"), "one message, tried twice")
			var said struct {
				Event     string    `json:"event"`
				JobID     string    `json:"job_id"`
				Timestamp time.Time `json:"timestamp"`
			}
			require.NoError(t, json.Unmarshal(m.body, &said))
			require.Equal(t, want.event, said.Event)
			require.Equal(t, want.job, said.JobID)
			require.WithinDuration(t, time.Now(), said.Timestamp, 30*time.Minute, "an hour off is another zone")
		}
		deliveries[path] = tries[0].header.Get("webhook-id")
	}
	s.delivered()
	s.stop()
	requireAttempts(t, s, deliveries["/redirects"], 307, 200)
	requireAttempts(t, s, deliveries["/fails"], 500, 200)

	// Sent again on demand, also by the next server.
	s.withStore(func(st *store.Store) {
		require.NoError(t, st.Redeliver(t.Context(), deliveries["/redirects"], time.Now().UTC()))
	})
	s.start()
	again := hooks.at(t, "/redirects", 3)
	require.Len(t, again, 3)
	require.Equal(t, deliveries["/redirects"], again[2].header.Get("webhook-id"))
	require.Len(t, hooks.at(t, "/fails", 2), 2, "what was delivered is not sent again")
	require.Empty(t, hooks.at(t, "/elsewhere", 0), "a redirect is not followed")
}

// delivered waits until no message is left to be sent, and the last try of each is written down: the end of a server may
// cut off what is on its way, to be sent again.
func (s *testServer) delivered() {
	s.t.Helper()
	s.withStore(func(st *store.Store) {
		s.eventually(func() bool {
			_, left, err := st.NextDelivery(s.t.Context())
			require.NoError(s.t, err)
			return !left
		}, "every message is delivered or given up")
	})
}

// withStore opens the database of a stopped server, or of one that runs, to look.
func (s *testServer) withStore(do func(*store.Store)) {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), "sqlite:"+filepath.Join(s.dir, "comfyfleet.db"), store.Options{})
	require.NoError(s.t, err)
	defer st.Close()
	do(st)
}

// requireAttempts holds a delivery to its recorded tries.
func requireAttempts(t *testing.T, s *testServer, id string, statuses ...int) {
	t.Helper()
	s.withStore(func(st *store.Store) {
		d, err := st.Delivery(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, models.DeliveryDelivered, d.State)
		tries, err := st.DeliveryAttempts(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, tries, len(statuses))
		for i, try := range tries {
			require.Equal(t, statuses[i], try.Status)
			require.Equal(t, i < len(statuses)-1, try.Error != "", "only the last one counts: %+v", try)
		}
	})
}

func testCredentialsStay(t *testing.T) {
	const password = "hunter2-of-the-media-server"
	hooks := newReceiver(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	s := startServer(t, quick, allowLoopback)
	var answers []string
	hear := func(a answer) answer {
		answers = append(answers, string(a.body))
		for _, values := range a.header {
			answers = append(answers, values...)
		}
		return a
	}
	withPassword := func(url string) string { return strings.Replace(url, "http://", "http://me:"+password+"@", 1) + "/" }
	request := steps(1, 0, 1)
	request["webhook_url"] = withPassword(hooks.URL)
	refused := hear(s.call("POST", "/v1/jobs", testKey, request))
	require.Equal(t, 400, refused.status, "a webhook address with a password: %s", refused.body)
	refused = hear(s.call("POST", "/v1/jobs", testKey, resize(map[string]string{"name": "input.png", "url": withPassword(closed.URL)})))
	require.Equal(t, 400, refused.status, "a medium that cannot be fetched: %s", refused.body)

	request["webhook_url"] = hooks.URL + "/"
	a := hear(s.call("POST", "/v1/jobs", testKey, request))
	require.Equal(t, 200, a.status, "%s", a.body)
	var job jobStatus
	a.json(t, &job)
	s.completed(job.JobID)
	for _, path := range []string{"/v1/jobs", "/v1/jobs/" + job.JobID, "/v1/jobs/" + job.JobID + "/events", "/v1/usage", "/v1/workflows"} {
		a := hear(s.call("GET", path, testKey, nil))
		require.Equal(t, 200, a.status, "%s", a.body)
	}
	hook := hooks.at(t, "/", 1)[0]
	require.NotContains(t, hook.header, "X-Api-Key")
	answers = append(answers, string(hook.body), strings.Join(hook.header["Authorization"], ""), s.log.String())
	for _, said := range answers {
		require.NotContains(t, said, testKey)
		require.NotContains(t, said, password)
	}
}

func testPrivateNetwork(t *testing.T) {
	var reached atomic.Bool
	inside := &httptest.Server{Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) })}}
	var err error
	if inside.Listener, err = net.Listen("tcp", "127.0.0.2:0"); err != nil {
		skip(t, "no second loopback address: "+err.Error())
	}
	inside.Start()
	defer inside.Close()
	gate := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusFound))
	defer gate.Close()
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	require.NoError(t, err)

	s := startServer(t, quick, allowLoopback)
	for name, url := range map[string]string{
		"an address":                inside.URL,
		"a redirect to it":          gate.URL,
		"its number":                "http://2130706434:" + port,
		"the same in IPv6":          "http://[::ffff:127.0.0.2]:" + port,
		"all addresses of the host": "http://0.0.0.0:" + port,
	} {
		t.Run(name, func(t *testing.T) {
			a := s.call("POST", "/v1/jobs", testKey, resize(map[string]string{"name": "input.png", "url": url}))
			require.Equal(t, 400, a.status, "%s", a.body)
			require.Contains(t, string(a.body), "media[0]")
		})
	}
	require.False(t, reached.Load(), "a server in the private network was asked")
	require.Empty(t, s.list(testKey, ""))
	require.Empty(t, s.blobs())
}
