package outbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// maxAnswer is how much of a webhook endpoint's answer is kept for the log, in bytes.
const maxAnswer = 4 << 10

// Answer is what an endpoint said to a POST.
type Answer struct {
	// Status is the HTTP status; a redirect is answered as such.
	Status int
	// Location is where a redirect points, "" for none.
	Location string
	// RetryAfter is how long it asks to be left alone (RFC 9110, 10.2.3), 0 when it does not say or makes no sense.
	RetryAfter time.Duration
	// Body is its beginning, 4 kB at most.
	Body []byte
	// Latency is from the call until the status came; also set with an error.
	Latency time.Duration
}

// Post sends body once, within timeout. It follows no redirect: a signed message is for the address that was given.
// It fails only when no status came, with a *models.Error that may be shown, or ctx's own error when ctx ended.
func (c *Client) Post(ctx context.Context, url string, header http.Header, body []byte, timeout time.Duration) (Answer, error) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := c.request(limited, http.MethodPost, url)
	if err != nil {
		return Answer{}, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.ContentLength = int64(len(body))

	answer, err := c.staying.Do(r)
	latency := time.Since(begin)
	if err != nil {
		failure, _ := describe(limited, err)
		switch {
		case ctx.Err() != nil:
			failure = ctx.Err()
		case errors.Is(failure, context.DeadlineExceeded):
			failure = errFetch("the server did not answer within "+timeout.String(), err)
		}
		return Answer{Latency: latency}, failure
	}
	defer answer.Body.Close()
	// The status decides; a body that drips or breaks off is kept as far as it came.
	kept, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return Answer{Status: answer.StatusCode, Location: answer.Header.Get("Location"), RetryAfter: retryAfter(answer.Header, time.Now()),
		Body: kept, Latency: latency}, nil
}
