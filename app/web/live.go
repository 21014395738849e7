package web

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"time"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
	"comfyfleet/views"
)

const (
	// beatEvery is how often a stream without news says that it lives. static/js/live.js calls its numbers old after two
	// missing beats.
	beatEvery = 5 * time.Second
	// leastGap is the least time between two looks at what a page shows: people do not read faster.
	leastGap = 500 * time.Millisecond
)

// part is one element of a page that its stream keeps current.
type part struct {
	id        string
	component templ.Component
}

// page looks at what a page shows now.
type page func(ctx context.Context) ([]part, error)

// watch is what wakes a page's stream: changes of jobs, of the fleet, and time. Zero fields do not.
type watch struct {
	job   string // one job, or "*" for all
	fleet bool
	every time.Duration
}

// stream sends a page's parts: all of them at first, then those that changed. open is called for each connection,
// so that a stream may remember what its reader sees.
func (w *Web) stream(c *fiber.Ctx, on watch, open func(feed Feed) page) error {
	return w.follow(c, func(ctx context.Context) (<-chan struct{}, looker, func()) {
		wake, feed, stop := w.subscribe(ctx, on)
		page := open(feed)
		return wake, func(ctx context.Context) ([]rendered, error) { return w.renderAll(ctx, page) }, stop
	})
}

// shared is stream for a page that is the same for everybody who may do the same: refused is why the reader may not act,
// "" if he may.
func (w *Web) shared(c *fiber.Ctx, name, refused string, on watch, look page) error {
	return w.follow(c, func(context.Context) (<-chan struct{}, looker, func()) {
		b, wake, leave := w.boards.join(name+"\x00"+refused, func() *board { return w.openBoard(on, look) })
		return wake, b.latest, leave
	})
}

// looker answers what a reader should see now.
type looker func(ctx context.Context) ([]rendered, error)

func (w *Web) follow(c *fiber.Ctx, open func(ctx context.Context) (wake <-chan struct{}, look looker, stop func())) error {
	hash := personOf(c).session.Hash
	return w.server.SSE(c, func(ctx context.Context) (server.Feed, error) {
		ctx, cancel := context.WithCancel(ctx)
		wake, look, stop := open(ctx)
		p := &pusher{look: look, now: w.Now, sent: map[string]uint64{}}
		return server.Feed{
			Wake: wake,
			Next: p.next,
			Check: func(ctx context.Context) error {
				who, err := w.sessionPerson(ctx, hash)
				if err == nil && who == nil {
					err = models.Errorf(models.CodeUnauth, "signed_out", "the session has ended")
				}
				return err
			},
			Close: func() {
				cancel()
				stop()
			},
		}, nil
	})
}

// subscribe is what wakes a page, until ctx ends; stop gives the subscriptions back. feed is that of the watched job.
func (w *Web) subscribe(ctx context.Context, on watch) (wake <-chan struct{}, feed Feed, stop func()) {
	if on.job != "" {
		id := on.job
		if id == "*" {
			id = ""
		}
		feed = w.Follow(id)
	}
	var fleet <-chan struct{}
	unsubscribe := func() {}
	if on.fleet {
		fleet, unsubscribe = w.Fleet.Changes()
	}
	return pace(ctx, feed.Wake, fleet, on.every), feed, func() {
		unsubscribe()
		if feed.Close != nil {
			feed.Close()
		}
	}
}

// pace joins wakes and time into one channel that fires at most every leastGap and at least every beat. It ends with
// ctx.
func pace(ctx context.Context, a, b <-chan struct{}, every time.Duration) <-chan struct{} {
	if every == 0 {
		every = beatEvery
	}
	out := make(chan struct{}, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		rest := time.NewTimer(0)
		defer rest.Stop()
		for {
			select {
			case <-rest.C:
			case <-ctx.Done():
				return
			}
			select {
			case <-a:
			case <-b:
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
			rest.Reset(leastGap)
		}
	}()
	return out
}

// pusher sends what changed.
type pusher struct {
	look looker
	now  func() time.Time
	sent map[string]uint64 // part → sum of what the browser has
	last time.Time
}

// ticking is what the browser keeps current by itself: a clock that went on is no change.
var ticking = regexp.MustCompile(`(<time [^>]*data-tick="[a-z]+"[^>]*>)[^<]*`)

func (p *pusher) next(ctx context.Context) (frames [][]byte, done bool, err error) {
	parts, err := p.look(ctx)
	if err != nil {
		return nil, false, err
	}
	var changed bytes.Buffer
	for _, part := range parts {
		if old, ok := p.sent[part.id]; ok && old == part.sum {
			continue
		}
		p.sent[part.id] = part.sum
		changed.Write(part.html)
	}
	now := p.now()
	switch {
	case changed.Len() > 0:
		frames = [][]byte{server.Event("", "parts", changed.Bytes())}
	case now.Sub(p.last) >= beatEvery-leastGap:
		frames = [][]byte{server.Event("", "beat", []byte("-"))}
	default:
		return nil, false, nil
	}
	p.last = now
	return frames, false, nil
}

// box is a part whose element is a plain wrapper around a component.
func box(id string, inner templ.Component) part {
	return part{id, wrapped(id, inner)}
}

func wrapped(id string, inner templ.Component) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, out io.Writer) error {
		return views.Part(id, true).Render(templ.WithChildren(ctx, inner), out)
	})
}

// frame are the parts that every page has.
func (w *Web) frame(ctx context.Context, workers []models.Worker) ([]part, error) {
	s, err := w.status(ctx, workers)
	if err != nil {
		return nil, err
	}
	return []part{
		{"sentence", views.Sentence(s, true)},
		{"rail-jobs", views.RailCount(s, true)},
		{"rail-pips", views.RailPips(s, true)},
	}, nil
}
