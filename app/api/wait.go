package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/jobs"
)

const (
	// maxWait bounds Prefer: wait=N.
	maxWait = 60 * time.Second
	// recheckEvery is how often the stored job is looked at although nothing was heard of it.
	recheckEvery = 5 * time.Second
)

// preferredWait is N of "Prefer: wait=N" (RFC 7240), at most maxWait; 0 when it asks for none.
func preferredWait(header string) time.Duration {
	for preference := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(preference), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
		if err != nil || n <= 0 {
			return 0
		}
		return min(time.Duration(min(n, 3600))*time.Second, maxWait)
	}
	return 0
}

// answerLater answers a submission with the whole job, when it has ended or the time is up.
func (a *api) answerLater(c *fiber.Ctx, acc jobs.Accepted, wait time.Duration) error {
	c.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	ctx, cancel := context.WithTimeout(c.UserContext(), wait)
	defer cancel()
	job, err := a.whenFinal(ctx, acc)
	if err != nil {
		return err
	}
	return a.sendJob(c, job, &acc.Job.EstimatedSeconds)
}

// whenFinal is the job when it has ended, or as it is when ctx ends or the server stops.
func (a *api) whenFinal(ctx context.Context, acc jobs.Accepted) (jobs.View, error) {
	f := a.FollowEnd(acc.Job.ID)
	defer f.Close()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	_, here := f.Latest() // where a new job runs, its end is heard
	over := false
	for look := !here || acc.Replayed; ; look = true {
		if u, _ := f.Latest(); u.Ended != nil {
			return *u.Ended, nil
		}
		if look {
			// The wait may be over, the looks at the job are not.
			call, done := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
			v, err := a.Jobs.Job(call, acc.Job.TenantID, acc.Job.ID)
			done()
			if err != nil || v.State.Final() || over {
				return v, err
			}
		}
		over = !a.awaitNews(ctx, f, tick.C)
	}
}

// awaitNews waits until the job may have ended. It is false when there is no time left to wait.
func (a *api) awaitNews(ctx context.Context, f Follower, tick <-chan time.Time) bool {
	select {
	case <-f.Wake:
		return true
	case <-tick:
		return true
	case <-ctx.Done():
		return false
	case <-a.server.Stopping():
		return false
	}
}
