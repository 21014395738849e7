package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/api"
	"comfyfleet/app/auth"
	"comfyfleet/app/jobs"
	"comfyfleet/app/outbound"
	"comfyfleet/app/server"
	"comfyfleet/app/storage"
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

const graph = `{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"out"}}}`

// world is the API over a real service, database, storage and keys, with a scripted fleet.
type world struct {
	t      *testing.T
	url    string
	client *http.Client
	store  *store.Store
	blobs  *storage.Store
	jobs   *jobs.Service
	server *server.Server
	fleet  *fleet
	signer *api.Signer
	clock  *clock
	keys   map[string]string // by name: acme, other, reader
	free   uint64
	stop   func()
}

// clock runs with the real one until it is held, and can be put forward.
type clock struct {
	mu   sync.Mutex
	held time.Time
	add  time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now()
	if !c.held.IsZero() {
		at = c.held
	}
	return at.UTC().Add(c.add)
}

// hold lets the clock stand still.
func (c *clock) hold() {
	c.mu.Lock()
	c.held = time.Now()
	c.mu.Unlock()
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	c.add += d
	c.mu.Unlock()
}

func newWorld(t *testing.T, change ...func(c *server.Config, d *api.Deps)) *world {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, fleet: newFleet(), clock: &clock{}, keys: map[string]string{}, free: 1 << 40}
	var err error
	w.store, err = store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "test.db"), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	w.blobs, err = storage.Open(t.Context(), "file:"+filepath.Join(dir, "blobs"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.blobs.Close()) })
	w.jobs = jobs.New(jobs.Config{
		Store: w.store, Blobs: w.blobs, Fleet: w.fleet, Log: log, Outbound: outbound.New(outbound.Options{}),
		MaxQueued: 1000, MaxQueuedPerTenant: 1000,
	})
	w.people()
	w.signer, err = api.NewSigner(w.clock.now, api.SignKey{ID: "k2", Secret: bytes.Repeat([]byte{2}, 32)}, api.SignKey{ID: "k1", Secret: bytes.Repeat([]byte{1}, 32)})
	require.NoError(t, err)

	c := server.Config{Log: log, Now: w.clock.now, DrainFor: time.Minute}
	d := api.Deps{
		Keys: auth.NewKeys(w.store, w.clock.now), Jobs: w.jobs, Follow: api.FollowJobs(w.jobs), FollowEnd: api.FollowJobEnds(w.jobs), Blobs: api.StoreBlobs(w.blobs),
		Library: w.store, Usage: w.store, Fleet: w.fleet, Signer: w.signer, NewID: uuid.NewString, Version: "test",
		FreeDisk: func() (uint64, bool) { return w.free, true }, MinFreeDisk: 1 << 20,
	}
	for _, f := range change {
		f(&c, &d)
	}
	w.server = server.New(context.Background(), c)
	require.NoError(t, api.Register(w.server, d))
	w.serve()
	w.client = &http.Client{Transport: newContract(t, w.url)}
	return w
}

// people makes two tenants and their keys.
func (w *world) people() {
	for _, name := range []string{"acme", "other"} {
		tenant := models.Tenant{ID: uuid.NewString(), Name: name, CreatedAt: time.Now().UTC(), Weight: 1}
		require.NoError(w.t, w.store.CreateTenant(w.t.Context(), tenant))
		w.key(name, tenant.ID, auth.JoinScopes(models.AllScopes))
		if name == "acme" {
			w.key("reader", tenant.ID, string(models.ScopeRead))
		}
	}
}

func (w *world) key(name, tenantID, scopes string) {
	key, k := auth.NewKey()
	k.ID, k.TenantID, k.Name, k.Scopes, k.CreatedAt = uuid.NewString(), tenantID, name, scopes, time.Now().UTC()
	require.NoError(w.t, w.store.CreateKey(w.t.Context(), k))
	w.keys[name] = key
}

func (w *world) serve() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.t, err)
	w.url = "http://" + ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ln) }()
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(w.t, w.server.Shutdown(ctx))
		require.NoError(w.t, <-served)
	})
	w.t.Cleanup(w.stop)
}

// dispatch lets the fleet work until the test ends.
func (w *world) dispatch() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.jobs.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(a.body, v), string(a.body))
}

// object is the body as JSON.
func (a answer) object(t *testing.T) (m map[string]any) {
	t.Helper()
	a.into(t, &m)
	return m
}

// call makes a request as the key of that name, "" for none. headers are pairs.
func (w *world) call(key, method, path string, body io.Reader, headers ...string) answer {
	w.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = w.url + path
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, path, body)
	require.NoError(w.t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+w.keys[key])
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := w.client.Do(req)
	require.NoError(w.t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(w.t, err)
	return answer{r.StatusCode, r.Header, b}
}

func (w *world) get(key, path string) answer { return w.call(key, http.MethodGet, path, nil) }

func (w *world) post(key, body string, headers ...string) answer {
	return w.call(key, http.MethodPost, "/v1/jobs", strings.NewReader(body), headers...)
}

// submit submits a good job and returns its id.
func (w *world) submit(key string) string {
	w.t.Helper()
	a := w.post(key, `{"workflow":`+graph+`,"media":[{"name":"in.png","data":"`+picture+`"}]}`)
	require.Equal(w.t, http.StatusOK, a.status, string(a.body))
	return a.object(w.t)["job_id"].(string)
}

// picture is a PNG's first bytes in base64.
const picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABc3UBGAAAAABJRU5ErkJggg=="

func (w *world) until(id, status string) map[string]any {
	w.t.Helper()
	var m map[string]any
	require.Eventually(w.t, func() bool {
		m = w.get("acme", "/v1/jobs/"+id).object(w.t)
		return m["status"] == status
	}, 30*time.Second, 5*time.Millisecond)
	return m
}

func (w *world) stored() (ids []string) {
	require.NoError(w.t, w.blobs.IDs(w.t.Context(), time.Now().Add(time.Hour), func(id string) error {
		ids = append(ids, id)
		return nil
	}))
	return ids
}

// fleet has one worker. run is what it does with a task; the default makes two outputs.
type fleet struct {
	mu      sync.Mutex
	run     func(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome
	stops   map[string]chan models.Cause
	state   models.WorkerState
	changes chan struct{}
}

func newFleet() *fleet {
	return &fleet{run: succeed, stops: map[string]chan models.Cause{}, state: models.WorkerReady, changes: make(chan struct{}, 1)}
}

func (f *fleet) Workers() []models.Worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []models.Worker{{Name: "w0", Kind: models.WorkerSimulated, State: f.state}}
}

func (f *fleet) set(s models.WorkerState) {
	f.mu.Lock()
	f.state = s
	f.mu.Unlock()
}

func (f *fleet) Worker(name string) (models.Worker, bool) { return f.Workers()[0], name == "w0" }
func (f *fleet) Changes() (<-chan struct{}, func())       { return f.changes, func() {} }
func (f *fleet) Forget(context.Context, string, string, string) {
}
func (f *fleet) Start(string)   {}
func (f *fleet) Release(string) {}

func (f *fleet) Execute(ctx context.Context, _ string, t gpu.Task, o gpu.Observer) gpu.Outcome {
	f.stopped(t.AttemptID)
	return f.run(ctx, t, o)
}

func (f *fleet) stopped(attemptID string) chan models.Cause {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stops[attemptID] == nil {
		f.stops[attemptID] = make(chan models.Cause, 1)
	}
	return f.stops[attemptID]
}

func (f *fleet) Stop(attemptID string, cause models.Cause) {
	select {
	case f.stopped(attemptID) <- cause:
	default:
	}
}

func (f *fleet) OutputStamp(string, gpu.FileRef) string { return "" }

func (f *fleet) OpenOutput(_ context.Context, _ string, ref gpu.FileRef) (io.ReadCloser, int64, error) {
	content := resultOf(ref.Filename)
	return io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
}

// resultOf is what the fleet made under a name: large enough to be streamed.
func resultOf(name string) []byte {
	if strings.HasSuffix(name, ".html") {
		return []byte("<!doctype html><script>alert(1)</script>")
	}
	return append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte(name), 5000)...)
}

// begin is the part of a task until it runs.
func begin(ctx context.Context, t gpu.Task, o gpu.Observer) error {
	if err := t.Fence(ctx); err != nil {
		return err
	}
	if err := o.Staged(ctx); err != nil {
		return err
	}
	return o.Started(ctx, time.Now())
}

func succeed(ctx context.Context, t gpu.Task, o gpu.Observer) gpu.Outcome {
	if err := begin(ctx, t, o); err != nil {
		return gpu.Outcome{Cause: models.CauseCanceled, Detail: err.Error()}
	}
	at := time.Now().UTC()
	o.Progress(models.Progress{Percent: 50, Value: 3, Max: 6, NodesDone: 1, NodesTotal: 2, CurrentNode: "2", CurrentClass: "SaveImage", LastEventAt: &at}, models.PhaseExecuting)
	return outcome(t)
}

func outcome(t gpu.Task) gpu.Outcome {
	file := func(ext string) *gpu.FileRef {
		return &gpu.FileRef{Filename: t.JobID[:8] + "_out_00001_." + ext, Subfolder: t.AttemptID, Type: "output"}
	}
	return gpu.Outcome{Started: true, ExecMS: 7, Outputs: []gpu.NodeOutput{
		{Node: "2", Key: "images", File: file("png")},
		{Node: "2", Key: "files", File: file("html")},
		{Node: "3", Key: "text", Text: "hello", IsText: true},
	}}
}
