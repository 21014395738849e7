package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"comfyfleet/models"
)

const (
	// fetchLimit bounds one download with all its tries, whatever the caller's context allows.
	fetchLimit = time.Minute
	fetchTries = 3
	// maxRetryAfter is how long a server may ask us to wait before the next try.
	maxRetryAfter = 5 * time.Second
	sniffSize     = 512 // what http.DetectContentType looks at
)

// Fetched is what a download brought.
type Fetched struct {
	// ContentType is what the server called it, without parameters.
	ContentType string
	// Size is how many bytes were written.
	Size int64
}

// Fetch downloads url into w, maxBytes at most. It tries again when the connection fails or the server answers 429 or
// 5xx, but not once bytes were written. Text (text/*, JSON, XML, scripts) is refused: it is what error pages and
// internal services answer with, and no input of a graph.
//
// The error is a *models.Error for the tenant, ctx's own when ctx was cancelled, or w's when writing failed.
func (c *Client) Fetch(ctx context.Context, url string, w io.Writer, maxBytes int64) (Fetched, error) {
	if err := c.Check(url); err != nil {
		return Fetched{}, err
	}
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()

	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 250*time.Millisecond, 2*time.Second
	answer, err := backoff.Retry(limited, func() (*http.Response, error) { return c.get(limited, url) },
		backoff.WithBackOff(pause), backoff.WithMaxTries(fetchTries), backoff.WithMaxElapsedTime(fetchLimit))
	if err != nil {
		return Fetched{}, fetchError(ctx, err)
	}
	defer answer.Body.Close()
	got, err := save(answer, w, maxBytes)
	if err != nil {
		return Fetched{}, fetchError(ctx, err)
	}
	return got, nil
}

// get makes one try. An error that another try cannot mend is permanent.
func (c *Client) get(ctx context.Context, url string) (*http.Response, error) {
	r, err := c.request(ctx, http.MethodGet, url)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	r.Header.Set("Accept", "image/*, video/*, audio/*, */*;q=0.5")
	r.Header.Set("Accept-Encoding", "identity")
	answer, err := c.following.Do(r)
	if err != nil {
		failure, again := describe(ctx, err)
		if !again {
			return nil, backoff.Permanent(failure)
		}
		return nil, failure
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	_ = answer.Body.Close()
	failure := errFetch(fmt.Sprintf("the server answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode)), nil)
	switch {
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode >= 500:
		return nil, errors.Join(failure, waitFor(answer.Header))
	default:
		return nil, backoff.Permanent(failure)
	}
}

// waitFor is the wait that a busy server asked for, nil when it asked for none or for too long.
func waitFor(h http.Header) error {
	asked := retryAfter(h, time.Now())
	if asked <= 0 || asked > maxRetryAfter {
		return nil
	}
	return &backoff.RetryAfterError{Duration: asked}
}

// retryAfter is the pause that a server asks for by seconds or a date, 0 when it asks for none or makes no sense.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// save judges an answer by its headers and copies its body.
func save(answer *http.Response, w io.Writer, maxBytes int64) (Fetched, error) {
	if e := strings.ToLower(answer.Header.Get("Content-Encoding")); e != "" && e != "identity" {
		return Fetched{}, models.Errorf(models.CodeInvalid, "fetch_failed", "the server sent it compressed (%.20q) although asked not to", e)
	}
	if answer.ContentLength > maxBytes {
		return Fetched{}, errTooLarge(maxBytes)
	}
	body := bufio.NewReaderSize(answer.Body, 32<<10)
	kind, err := contentType(answer.Header, body)
	if err != nil {
		return Fetched{}, err
	}
	target := &sink{w: w}
	n, err := io.Copy(target, io.LimitReader(body, maxBytes+1))
	switch {
	case target.err != nil:
		return Fetched{}, target.err
	case err != nil:
		return Fetched{}, errFetch(fmt.Sprintf("the download broke off after %d bytes", n), err)
	case n > maxBytes:
		return Fetched{}, errTooLarge(maxBytes)
	case n == 0:
		return Fetched{}, models.Errorf(models.CodeInvalid, "fetch_failed", "the server sent an empty file")
	}
	return Fetched{ContentType: kind, Size: n}, nil
}

// contentType is what the server calls the body, or what it looks like when the server does not say. Text is an error.
func contentType(h http.Header, body *bufio.Reader) (string, error) {
	said := h.Get("Content-Type")
	if said == "" {
		head, _ := body.Peek(sniffSize) // an error comes again with the copy
		if len(head) == 0 {
			return "", nil
		}
		said = http.DetectContentType(head)
	}
	kind, _, err := mime.ParseMediaType(said)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return "", models.Errorf(models.CodeInvalid, "content_type_refused", "the server calls it %.60q, which is no content type", said)
	}
	if isText(kind) {
		return "", models.Errorf(models.CodeInvalid, "content_type_refused", "the server sent %.60s, not an image, video or audio file", kind)
	}
	return kind, nil
}

func isText(kind string) bool {
	if strings.HasPrefix(kind, "text/") {
		return true
	}
	sub, ok := strings.CutPrefix(kind, "application/")
	if !ok {
		return false // image/svg+xml is an image
	}
	switch sub {
	case "json", "xml", "javascript", "x-javascript", "ecmascript", "x-ndjson", "yaml", "x-yaml", "graphql", "x-www-form-urlencoded":
		return true
	}
	return strings.HasSuffix(sub, "+json") || strings.HasSuffix(sub, "+xml")
}

// fetchError picks what the caller should see: its own context's end, the words for the tenant, or the writer's error.
func fetchError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var known *models.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errFetch("the download took too long", err)
	}
	return err
}

func errTooLarge(maxBytes int64) *models.Error {
	return models.Errorf(models.CodeInvalid, "media_too_large", "the file is larger than %d bytes", maxBytes)
}

// sink remembers the writer's own error, to tell it from the download's.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}
