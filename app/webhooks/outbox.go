package webhooks

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"comfyfleet/app/outbound"
	"comfyfleet/models"
)

const (
	// maxSends is how many messages are on their way at once, and maxPerEndpoint how many of them to one endpoint: one
	// that answers slowly holds at most two places.
	maxSends       = 32
	maxPerEndpoint = 2
	// page is how many due messages are looked at first. While all of them wait for places at busy endpoints, more are
	// looked at, up to maxPage, so that a slow endpoint's backlog hides nobody else's messages.
	page    = 128
	maxPage = 16_384
	// pollBusy is how soon due messages are looked for again while some are on their way, pollIdle otherwise. The second
	// is a safety net under Wake and the time of the next message.
	pollBusy = time.Second
	pollIdle = time.Minute
	// storePause is the wait after the store failed.
	storePause = 5 * time.Second
	// stopGrace is how long messages on their way may still take when the outbox stops.
	stopGrace = 3 * time.Second
)

// Store is what the outbox needs of the database.
type Store interface {
	// DueDeliveries are pending deliveries whose time has come, the longest due first.
	DueDeliveries(ctx context.Context, now time.Time, limit int) ([]models.Delivery, error)
	// NextDelivery is when the next pending delivery is due, which may be past.
	NextDelivery(ctx context.Context) (at time.Time, ok bool, err error)
	// RecordDelivery stores an attempt and where it leaves the delivery. One that is stored already is CodeConflict.
	RecordDelivery(ctx context.Context, a models.DeliveryAttempt, state models.DeliveryState, next *time.Time) error
	Delivery(ctx context.Context, id string) (models.Delivery, error)
	Redeliver(ctx context.Context, id string, at time.Time) error
	Tenant(ctx context.Context, id string) (models.Tenant, error)
	DisableWebhooks(ctx context.Context, tenantID string, at time.Time) error
}

// Poster sends one request; *outbound.Client does.
type Poster interface {
	Post(ctx context.Context, url string, header http.Header, body []byte, timeout time.Duration) (outbound.Answer, error)
}

// Options are what an Outbox is made of.
type Options struct {
	Store  Store
	Client Poster
	Log    *slog.Logger
	Now    func() time.Time
}

// Outbox sends due deliveries. Run does the work; the other methods may be called from any goroutine.
type Outbox struct {
	Options
	wake  chan struct{} // one token: look again
	ended chan models.Delivery

	// Run's own; nobody else touches them.
	sending  map[string]bool // by delivery id
	busy     map[string]int  // by endpoint
	look     int             // how many due messages to look at
	inFlight sync.WaitGroup
}

// New makes an outbox. Nothing is sent until Run.
func New(o Options) *Outbox {
	return &Outbox{
		Options: o,
		wake:    make(chan struct{}, 1),
		ended:   make(chan models.Delivery, maxSends),
		sending: map[string]bool{}, busy: map[string]int{}, look: page,
	}
}

// Wake says that a delivery may have become due. It never blocks.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Redeliver makes a delivery due now, whatever became of it; tenantID "" is an operator. One attempt follows, and
// more when its schedule is not used up.
func (o *Outbox) Redeliver(ctx context.Context, tenantID, id string) error {
	d, err := o.Store.Delivery(ctx, id)
	if err != nil {
		return err
	}
	if tenantID != "" && d.TenantID != tenantID {
		return models.ErrNotFound("delivery")
	}
	if err := o.Store.Redeliver(ctx, id, o.Now()); err != nil {
		return err
	}
	o.Wake()
	return nil
}

// Run sends what is due until ctx ends, then waits a moment for what is on its way. Trouble with the store is logged
// and tried again; Run never gives up. It must be called once.
func (o *Outbox) Run(ctx context.Context) error {
	// Messages on their way outlive ctx by the grace: cutting them off would only send them twice.
	sends, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	for ctx.Err() == nil {
		wait, err := o.startDue(ctx, sends)
		if err != nil && ctx.Err() == nil {
			o.Log.Error("webhooks: read due deliveries", "error", err)
			wait = storePause
		}
		o.rest(ctx, wait)
	}
	o.stop(cut)
	return nil
}

// rest waits for a reason to look again, wait at most.
func (o *Outbox) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-o.wake:
	case d := <-o.ended:
		o.release(d)
		for {
			select {
			case d := <-o.ended:
				o.release(d)
			default:
				return
			}
		}
	}
}

func (o *Outbox) release(d models.Delivery) {
	delete(o.sending, d.ID)
	key := endpoint(d)
	if o.busy[key]--; o.busy[key] <= 0 {
		delete(o.busy, key)
	}
}

// startDue starts what is due and has a place, and says how long there will be nothing to do.
func (o *Outbox) startDue(ctx, sends context.Context) (time.Duration, error) {
	for {
		due, err := o.Store.DueDeliveries(ctx, o.Now(), o.look)
		if err != nil {
			return 0, err
		}
		started, full := o.start(sends, due)
		crowded := len(due) == o.look && !started && !full
		if !crowded || o.look >= maxPage {
			if !crowded {
				o.look = page
			}
			return o.untilNext(ctx)
		}
		o.look = min(2*o.look, maxPage)
	}
}

// start sends what of due has a place. full says that no places were left at all.
func (o *Outbox) start(sends context.Context, due []models.Delivery) (started, full bool) {
	for _, d := range due {
		if len(o.sending) >= maxSends {
			return started, true
		}
		key := endpoint(d)
		if o.sending[d.ID] || o.busy[key] >= maxPerEndpoint {
			continue
		}
		o.sending[d.ID] = true
		o.busy[key]++
		started = true
		o.inFlight.Go(func() {
			o.deliver(sends, d)
			o.ended <- d // has room for all that are on their way
		})
	}
	return started, false
}

func (o *Outbox) untilNext(ctx context.Context) (time.Duration, error) {
	limit := pollIdle
	if len(o.sending) > 0 {
		limit = pollBusy // the next one in the store may be one that is on its way
	}
	at, ok, err := o.Store.NextDelivery(ctx)
	if err != nil {
		return 0, err
	}
	if !ok {
		return limit, nil
	}
	if left := at.Sub(o.Now()); left > 0 {
		return min(left, limit), nil
	}
	if len(o.sending) > 0 {
		return limit, nil
	}
	return 0, nil // it became due just now
}

func (o *Outbox) stop(cut context.CancelFunc) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.inFlight.Wait()
	}()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		cut()
		<-done
	}
}

// endpoint is what shares places: a tenant's URLs on one server, whatever their paths.
func endpoint(d models.Delivery) string {
	host := d.URL
	if u, err := url.Parse(d.URL); err == nil {
		host = u.Host
	}
	return d.TenantID + " " + host
}
