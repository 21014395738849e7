package server

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// rateWindow is the sliding window in which requests count.
const rateWindow = time.Minute

// Limit is how many requests a minute each key may make of one route.
type Limit struct {
	// Bucket names what is counted together, e.g. "submit".
	Bucket string
	// PerMinute is the limit of a key of t; 0 or less for none.
	PerMinute func(t models.Tenant) int
}

// limit counts a request against its key's limit and says in the answer how much is left. A refused one does not count.
func (s *Server) limit(c *fiber.Ctx, p auth.Principal, l Limit) error {
	if l.PerMinute == nil {
		return nil
	}
	most := l.PerMinute(p.Tenant)
	if most <= 0 {
		return nil
	}
	left, wait, ok := s.limiter.take(p.Key.ID+" "+l.Bucket, most)
	seconds := max(1, int(math.Ceil(wait.Seconds())))
	// The header fields of draft-ietf-httpapi-ratelimit-headers.
	c.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", l.Bucket, most, int(rateWindow.Seconds())))
	c.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", l.Bucket, left, seconds))
	if ok {
		return nil
	}
	e := models.Errorf(models.CodeLimited, "rate_limited", "more than %d requests a minute; retry after %s s", most, strconv.Itoa(seconds))
	e.RetryAfter = seconds
	return e
}

// limiter counts requests in a window that slides: exact, no bursts at its edges.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	windows map[string]*window
	swept   time.Time
}

// window is when the counted requests of the last minute came, oldest first.
type window struct{ hits []time.Time }

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, windows: map[string]*window{}, swept: now()}
}

// take counts one request under name when fewer than most came within the window. left is how many more may come now,
// wait how long until the next place is free.
func (l *limiter) take(name string, most int) (left int, wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.sweep(now)
	w := l.windows[name]
	if w == nil {
		w = &window{}
		l.windows[name] = w
	}
	w.expire(now)
	if ok = len(w.hits) < most; ok {
		w.hits = append(w.hits, now)
	}
	left = max(0, most-len(w.hits))
	next := w.hits[max(0, len(w.hits)-most)] // a limit that was lowered leaves more than most
	return left, next.Add(rateWindow).Sub(now), ok
}

func (w *window) expire(now time.Time) {
	n := 0
	for n < len(w.hits) && !w.hits[n].Add(rateWindow).After(now) {
		n++
	}
	w.hits = append(w.hits[:0], w.hits[n:]...)
}

// sweep forgets names that nobody used for a whole window, once a window.
func (l *limiter) sweep(now time.Time) {
	if now.Sub(l.swept) < rateWindow {
		return
	}
	l.swept = now
	for name, w := range l.windows {
		if w.expire(now); len(w.hits) == 0 {
			delete(l.windows, name)
		}
	}
}
