package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const testKey = "cfk_test"

// service is a /v1 of ours over a real socket. Its handlers are replaced by tests; what they leave out succeeds.
type service struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	bodies   []map[string]any
	keys     []string // idempotency keys
	requests []string // method and path
	auth     []string
	// submit, events, status and output replace a route when set.
	submit, events, status, output http.HandlerFunc
	file                           []byte
}

func newService(t *testing.T) *service {
	s := &service{t: t, file: []byte("a picture")}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) { s.route(w, r, s.submit, s.accept) })
	mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) { s.route(w, r, s.status, s.completed) })
	mux.HandleFunc("GET /v1/jobs/{id}/events", func(w http.ResponseWriter, r *http.Request) { s.route(w, r, s.events, http.NotFound) })
	mux.HandleFunc("DELETE /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.route(w, r, nil, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"message":"cancelled"}`) })
	})
	mux.HandleFunc("GET /v1/outputs/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.route(w, r, s.output, func(w http.ResponseWriter, r *http.Request) { w.Write(s.file) })
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *service) route(w http.ResponseWriter, r *http.Request, own, otherwise http.HandlerFunc) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	s.mu.Unlock()
	if own == nil {
		own = otherwise
	}
	own(w, r)
}

// accept reads a submission to its end and remembers it.
func (s *service) accept(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.bodies = append(s.bodies, body)
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
	n := len(s.bodies)
	s.mu.Unlock()
	fmt.Fprintf(w, `{"job_id":"%08d-job","status":"queued","estimated_time":30}`, n)
}

// completed answers a job with one output.
func (s *service) completed(w http.ResponseWriter, r *http.Request) {
	sum := sha256.Sum256(s.file)
	fmt.Fprintf(w, `{"job_id":%q,"status":"completed","progress":100,"error":null,"outputs":[{"node_id":"4","filename":"x.png","type":"image","size_bytes":%d,"sha256":%q,"url":"/v1/outputs/1?sig=abc"}]}`,
		r.PathValue("id"), len(s.file), hex.EncodeToString(sum[:]))
}

// client makes a client whose pauses pass at once and are written down.
func (s *service) client(pauses *[]time.Duration) *Client {
	c, err := New(Options{Server: s.url, Key: testKey})
	require.NoError(s.t, err)
	c.pause = func(ctx context.Context, d time.Duration) error {
		if pauses != nil {
			*pauses = append(*pauses, d)
		}
		return ctx.Err()
	}
	s.t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// inTurn answers each request with the next handler, the last one for ever.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		h(w, r)
	}
}

func refuse(status int, retryAfter, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"title":"t","status":%d,"detail":%q,"code":"c","errors":[{"field":"media[0].data","detail":"is broken"},{"field":"workflow","detail":"is odd"}]}`, status, detail)
	}
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

// stream answers an event stream and then ends it.
func stream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, ": hello\n\n"+strings.Join(events, "\n\n")+"\n\n")
	}
}
