package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/models"
)

// events streams a job as server-sent events: GET /v1/jobs/{id}/events.
func (a *api) events(c *fiber.Ctx) error { return a.follow(c, overSSE) }

// socket streams a job over a WebSocket: GET /v1/jobs/{id}/ws.
func (a *api) socket(c *fiber.Ctx) error { return a.follow(c, overSocket) }

// follow checks that the job may be followed, and streams it: a snapshot, what happens, and last the final status.
func (a *api) follow(c *fiber.Ctx, over transport) error {
	previews := true
	switch c.Query("previews") {
	case "", "all":
	case "none":
		previews = false
	default:
		return models.FieldErrorf(models.CodeInvalid, "bad_query", "previews", "must be all or none")
	}
	tenantID, id := server.PrincipalOf(c).Tenant.ID, c.Params("id")
	ctx, done := a.call(c)
	defer done()
	v, err := a.Jobs.Job(ctx, tenantID, id)
	if err != nil {
		return err
	}
	if err := a.topics.room(tenantID); err != nil {
		return err
	}
	seen := lastEventID(c, v.Revision)
	if over == overSSE && v.State.Final() && seen == v.Revision {
		// A browser reconnects when a stream ends; this tells it not to.
		return c.SendStatus(http.StatusNoContent)
	}
	f := follower{api: a, over: over, previews: previews, rev: seen, resumed: seen >= 0}
	check, base := server.Recheck(c, a.Keys, models.ScopeRead), a.baseURL(c)
	open := func(context.Context) (server.Feed, error) { return f.open(tenantID, id, base, check) }
	if over == overSocket {
		return a.server.WebSocket(c, open)
	}
	return a.server.SSE(c, open)
}

// lastEventID is the revision that the client has seen, -1 for none. A revision that the job has not reached yet cannot
// have been seen here; the database may have been restored from a copy.
func lastEventID(c *fiber.Ctx, newest int64) int64 {
	s := c.Get("Last-Event-ID")
	if s == "" {
		s = c.Query("last_event_id") // browsers cannot set the header on a first connection
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > newest {
		return -1
	}
	return n
}

// follower is one client's stream of a job.
type follower struct {
	api      *api
	over     transport
	previews bool
	live     Follower
	topic    *topic

	begun   bool
	resumed bool
	// rev is the last step that was sent; progress and preview the versions of theirs.
	rev               int64
	progress, preview uint64
}

func (f *follower) open(tenantID, jobID, base string, check func(context.Context) error) (server.Feed, error) {
	t, leave, err := f.api.topics.join(tenantID, jobID, base)
	if err != nil {
		return server.Feed{}, err
	}
	f.topic = t
	f.live = f.api.Follow(jobID) // before the first read, so that nothing falls between
	return server.Feed{
		Wake: f.live.Wake, Next: f.next, Check: check,
		Close: func() {
			f.live.Close()
			leave()
		},
	}, nil
}

// next is what the client has not seen yet. Reads happen under the topic's lock: the first follower who is woken reads
// for all.
func (f *follower) next(ctx context.Context) (frames [][]byte, done bool, err error) {
	t := f.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	u, known := f.live.Latest()
	if err := t.refresh(ctx, u, known); err != nil {
		return nil, false, err
	}
	send := func(messages ...*message) {
		for _, m := range messages {
			frames = append(frames, m.frame(f.over))
		}
	}
	if err := f.begin(ctx, u, known, send); err != nil {
		return nil, false, err
	}
	steps, err := t.since(ctx, f.rev)
	if err != nil {
		return nil, false, err
	}
	for i, m := range steps {
		if last := i == len(steps)-1; last && t.final {
			send(t.closing...)
		}
		send(m)
		f.rev = m.rev
	}
	if t.final {
		return frames, true, nil
	}
	if known && u.State == models.JobRunning {
		if err := f.news(u, send); err != nil {
			return nil, false, err
		}
	}
	return frames, false, nil
}

// begin sends the snapshot to a client that does not have the newest revision.
func (f *follower) begin(ctx context.Context, u jobs.Update, known bool, send func(...*message)) error {
	if f.begun {
		return nil
	}
	f.begun = true
	t := f.topic
	if f.resumed && f.rev == t.rev {
		return nil
	}
	m, err := t.snapshot(ctx, u, known, f.resumed)
	if err != nil {
		return err
	}
	send(m)
	if !f.resumed {
		f.rev = t.rev
		if t.final {
			f.rev-- // the last step ends the stream
		}
	}
	return nil
}

func (f *follower) news(u jobs.Update, send func(...*message)) error {
	progress, preview, err := f.topic.latest(u)
	if err != nil {
		return err
	}
	if f.progress != u.Version {
		f.progress = u.Version
		send(progress)
	}
	if f.previews && preview != nil && f.preview != u.PreviewVersion {
		f.preview = u.PreviewVersion
		send(preview)
	}
	return nil
}
