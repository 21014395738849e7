package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	// pollEvery is the pace of polling; the default rate limit allows 120 a minute for all jobs of a key together.
	pollEvery = 2 * time.Second
	// silence is how long an event stream may say nothing at all. The server sends a comment every 15 s.
	silence = 45 * time.Second
	// streamTries is how often a stream is opened again without having said anything before polling takes over.
	streamTries = 3
)

// Follow waits for the end of a job and calls each for every change, from this goroutine. It listens to the job's
// events and polls when there are none to be had. A server that goes away is waited for.
func (c *Client) Follow(ctx context.Context, id string, each func(Job)) (Job, error) {
	job, err := c.Job(ctx, id)
	if err != nil || job.Final() {
		return job, err
	}
	each(job)
	last, failures := "", 0
	for failures < streamTries {
		heard, err := c.listen(ctx, &job, &last, each)
		switch {
		case ctx.Err() != nil:
			return job, ctx.Err()
		case job.Final():
			return c.Job(ctx, id) // the whole, with its outputs
		case errors.Is(err, errNoStream):
			return c.poll(ctx, id, each)
		}
		// The stream broke. Where the job stands now is worth a question: it may have ended meanwhile.
		if failures++; heard {
			failures = 1
		}
		if err := c.pause(ctx, time.Duration(failures)*firstPause); err != nil {
			return job, err
		}
		if job, err = c.Job(ctx, id); err != nil || job.Final() {
			return job, err
		}
		each(job)
	}
	return c.poll(ctx, id, each)
}

// errNoStream says that the server will not stream to us; polling still works.
var errNoStream = errors.New("no event stream")

// listen follows the job's events until they end. job and last are kept up to date; heard says whether any came.
func (c *Client) listen(ctx context.Context, job *Job, last *string, each func(Job)) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := c.request(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(job.ID)+"/events", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	resp, err := c.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500:
		return false, readProblem(resp)
	case resp.StatusCode != http.StatusOK:
		return false, fmt.Errorf("%w: %w", errNoStream, readProblem(resp))
	}
	err = readEvents(resp.Body, func() { watchdog.Reset(silence) }, func(e event) bool {
		heard = true
		if e.id != "" {
			*last = e.id
		}
		if e.name == "status" || e.name == "progress" || e.name == "snapshot" {
			job.merge(e.data)
			each(*job)
		}
		return job.Final()
	})
	return heard, err
}

// merge takes over the fields that an event carries. Stored steps that come after a snapshot are older than its
// progress, which never goes back.
func (j *Job) merge(data string) {
	next := *j
	if json.Unmarshal([]byte(data), &next) != nil {
		return // not for us
	}
	next.ID, next.Progress = j.ID, max(j.Progress, next.Progress)
	*j = next
}

// poll asks every pollEvery until the job has ended.
func (c *Client) poll(ctx context.Context, id string, each func(Job)) (Job, error) {
	for {
		job, err := c.Job(ctx, id)
		if err != nil || job.Final() {
			return job, err
		}
		each(job)
		if err := c.pause(ctx, pollEvery); err != nil {
			return job, err
		}
	}
}
