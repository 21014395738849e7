package auth

import (
	"context"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"comfyfleet/models"
)

const (
	// maxEmail is the longest address of RFC 5321 in bytes; what is longer shares the trace of its beginning.
	maxEmail = 254
	// maxChecks is how many password checks run side by side: each takes 19 MiB and a core.
	maxChecks = 4
	// checkWait is how long a sign-in waits for its turn.
	checkWait = 10 * time.Second
)

// Throttle slows down guessing of passwords, by address and by e-mail, and bounds how many checks run at once.
// It is safe for concurrent use.
type Throttle struct {
	now   func() time.Time
	slots chan struct{}

	mu        sync.Mutex
	addresses ledger
	emails    ledger
}

// NewThrottle makes a throttle without any history.
func NewThrottle(now func() time.Time) *Throttle {
	return &Throttle{
		now:   now,
		slots: make(chan struct{}, maxChecks),
		// An address that guesses waits up to a quarter of an hour. An e-mail waits a minute at most, from wherever
		// the guesses come: enough against guessing, and a stranger cannot lock an operator out for longer.
		addresses: ledger{free: 10, most: 15 * time.Minute, traces: map[string]trace{}},
		emails:    ledger{free: 5, most: time.Minute, traces: map[string]trace{}},
	}
}

// Begin asks for leave to check a password. The caller must call done with whether it was right. CodeLimited with
// RetryAfter when there were too many failures; CodeUnavailable when too many checks are under way.
//
// The attempt counts as a failure from here until done says otherwise, so that guesses sent side by side do not all
// slip in before the first has failed.
func (t *Throttle) Begin(ctx context.Context, ip, email string) (done func(ok bool), err error) {
	address, email := network(ip), strings.Clone(strings.ToLower(strings.TrimSpace(email[:min(len(email), maxEmail)])))
	if err := t.count(address, email); err != nil {
		return nil, err
	}
	wait := time.NewTimer(checkWait)
	defer wait.Stop()
	select {
	case t.slots <- struct{}{}:
	case <-wait.C:
		return nil, &models.Error{Code: models.CodeUnavailable, Name: "sign_in_busy", Detail: "too many sign-ins at once; try again in a few seconds", RetryAfter: 5}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var once sync.Once
	return func(ok bool) {
		once.Do(func() {
			<-t.slots
			if ok {
				t.clear(address, email)
			}
		})
	}, nil
}

func (t *Throttle) count(address, email string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	until := t.addresses.until(address, now)
	if e := t.emails.until(email, now); e.After(until) {
		until = e
	}
	if until.After(now) {
		seconds := int(math.Ceil(until.Sub(now).Seconds()))
		return &models.Error{Code: models.CodeLimited, Name: "sign_in_limited", Detail: "too many failed sign-ins; wait and try again", RetryAfter: seconds}
	}
	t.addresses.fail(address, now)
	t.emails.fail(email, now)
	return nil
}

// clear forgets the failures of an e-mail that signed in, and takes back this attempt from the address. The address
// keeps its other failures: one good account must not wash away guesses at others.
func (t *Throttle) clear(address, email string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.emails.forget(email)
	t.addresses.forgive(address)
}

// network is what an address is counted under: itself, or its /64 in IPv6, where one subscriber has at least that many.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return strings.Clone(ip)
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}
