package webhooks_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
	"comfyfleet/app/webhooks"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// bench is a real database with one tenant, and an outbox over it.
type bench struct {
	*store.Store
	path   string
	tenant models.Tenant
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{path: filepath.Join(t.TempDir(), "test.db")}
	b.open(t)
	b.tenant = models.Tenant{ID: uuid.NewString(), Name: "acme", CreatedAt: now(), Weight: 1, WebhookSecret: webhooks.NewSecret()}
	require.NoError(t, b.CreateTenant(t.Context(), b.tenant))
	return b
}

func (b *bench) open(t *testing.T) {
	t.Helper()
	var err error
	b.Store, err = store.Open(t.Context(), "sqlite:"+b.path, store.Options{Now: now, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
}

// owe ends a job whose webhook goes to url, and answers its delivery.
func (b *bench) owe(t *testing.T, url string) models.Delivery {
	t.Helper()
	job, _, err := b.AcceptJob(t.Context(), models.NewJob{
		Job: models.Job{
			ID: uuid.NewString(), TenantID: b.tenant.ID, Origin: models.OriginAPI, State: models.JobQueued,
			Phase: models.PhaseWaiting, CreatedAt: now(), WebhookURL: url,
		},
		Payload: models.JobPayload{Graph: []byte("{}")},
	})
	require.NoError(t, err)
	_, _, err = b.CancelJob(t.Context(), "", job.ID, now(), "")
	require.NoError(t, err)
	list, err := b.DeliveriesOf(t.Context(), job.ID)
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func (b *bench) delivery(t *testing.T, id string) models.Delivery {
	t.Helper()
	d, err := b.Delivery(t.Context(), id)
	require.NoError(t, err)
	return d
}

func (b *bench) attempts(t *testing.T, id string) []models.DeliveryAttempt {
	t.Helper()
	list, err := b.DeliveryAttempts(t.Context(), id)
	require.NoError(t, err)
	return list
}

func newOutbox(s webhooks.Store, p webhooks.Poster) *webhooks.Outbox {
	return webhooks.New(webhooks.Options{Store: s, Client: p, Log: slog.New(slog.DiscardHandler), Now: now})
}

// still is an outbox whose clock stands still: what was owed before is due, and nothing becomes due again while a test
// looks at what became of it.
func still(s webhooks.Store, p webhooks.Poster) *webhooks.Outbox {
	at := now()
	return webhooks.New(webhooks.Options{Store: s, Client: p, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at }})
}

// start runs an outbox; stop ends it and waits.
func start(t *testing.T, o *webhooks.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	var once sync.Once
	return func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-ended)
		})
	}
}

// post is one message that reached the endpoint of a test.
type post struct {
	url, id string
	at      time.Time
}

// endpoints stands in for all servers of the world inside a synctest bubble, where real sockets would stop its clock.
type endpoints struct {
	// answer decides what a server says; it may wait.
	answer func(ctx context.Context, url *url.URL) (outbound.Answer, error)

	mu    sync.Mutex
	posts []post
}

func (e *endpoints) Post(ctx context.Context, address string, h http.Header, _ []byte, timeout time.Duration) (outbound.Answer, error) {
	e.mu.Lock()
	e.posts = append(e.posts, post{address, h.Get("webhook-id"), now()})
	answer := e.answer
	e.mu.Unlock()
	u, err := url.Parse(address)
	if err != nil {
		return outbound.Answer{}, err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return answer(limited, u)
}

func (e *endpoints) become(answer func(context.Context, *url.URL) (outbound.Answer, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoints) seen() []post {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]post(nil), e.posts...)
}

// peak counts what is under way, and the most that ever was.
type peak struct {
	mu        sync.Mutex
	now, most int
}

func (p *peak) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now++
	p.most = max(p.most, p.now)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.now--
	}
}

func (p *peak) height() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

func status(n int) func(context.Context, *url.URL) (outbound.Answer, error) {
	return func(context.Context, *url.URL) (outbound.Answer, error) { return outbound.Answer{Status: n}, nil }
}

// silent never answers.
func silent(ctx context.Context, _ *url.URL) (outbound.Answer, error) {
	<-ctx.Done()
	return outbound.Answer{}, fmt.Errorf("no answer: %w", ctx.Err())
}
