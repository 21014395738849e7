package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// callTimeout bounds a call that carries no media, maxAnswer its answer (a job without its outputs' data).
	callTimeout = 60 * time.Second
	maxAnswer   = 32 << 20
	// patience is how long a call is repeated while the server is busy or limits our rate, reach while it cannot be
	// reached, such as during an upgrade. An error of its own (500) is given failures tries.
	patience = 10 * time.Minute
	reach    = 2 * time.Minute
	failures = 3
	// firstPause and maxPause bound the pauses between tries where the server does not say; it may ask for up to maxAsked.
	firstPause = 500 * time.Millisecond
	maxPause   = 15 * time.Second
	maxAsked   = 2 * time.Minute
)

// Options says where the service is.
type Options struct {
	Server string // base URL, e.g. http://127.0.0.1:8080
	Key    string
	// HTTP is nil for a client of our own: no overall timeout, the proxy of the environment.
	HTTP *http.Client
	// Waiting hears of each pause before a call is repeated; nil for nobody.
	Waiting func(because error, pause time.Duration)
}

// Client calls one service with one key. It may be used by several goroutines.
type Client struct {
	base  *url.URL
	key   string
	http  *http.Client
	told  func(because error, pause time.Duration)
	pause func(ctx context.Context, d time.Duration) error // replaced by tests
}

// New makes a client. The URL must be http or https; credentials in it are used as the key when none is given.
func New(o Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(o.Server, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("the server must be a URL such as http://127.0.0.1:8080, not %q", o.Server)
	}
	if o.Key == "" && base.User != nil {
		o.Key = base.User.Username()
	}
	base.User = nil
	if o.Key == "" {
		return nil, errors.New("no API key")
	}
	c := &Client{base: base, key: o.Key, http: o.HTTP, told: o.Waiting, pause: sleep}
	if c.http == nil {
		c.http = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 2 * time.Minute, // after the body was sent; Prefer: wait takes up to one
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   16,
			ForceAttemptHTTP2:     true,
		}}
	}
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request makes a request for a path of the service, or for the URL of an output. The key goes to the service only.
func (c *Client) request(ctx context.Context, method, ref string, body io.Reader) (*http.Request, error) {
	target, err := c.base.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", ref, err)
	}
	if strings.HasPrefix(ref, "/") && c.base.Path != "" { // a service below a path of a proxy
		target, err = url.Parse(c.base.String() + ref)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", ref, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, err
	}
	if target.Host == c.base.Host && target.Scheme == c.base.Scheme {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	req.Header.Set("User-Agent", "comfyfleet")
	return req, nil
}

// call sends a request without a body and decodes its JSON answer.
func (c *Client) call(ctx context.Context, method, ref string, answer any) error {
	return c.retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		req, err := c.request(ctx, method, ref, nil)
		if err != nil {
			return err
		}
		return c.send(req, answer)
	})
}

// send does one try of a request. What is not 200 becomes a *Problem.
func (c *Client) send(req *http.Request, answer any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return readProblem(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// retry repeats try while the server is busy or cannot be reached.
func (c *Client) retry(ctx context.Context, try func() error) error {
	began, pause := time.Now(), firstPause
	var waited time.Duration // counted beside the clock, which a test's pauses do not move
	for broken := 0; ; {
		err := try()
		limit, again := passing(err)
		if err == nil || ctx.Err() != nil || !again {
			return err
		}
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusInternalServerError {
			if broken++; broken >= failures {
				return err
			}
		}
		wait := pause + rand.N(pause/2)
		pause = min(2*pause, maxPause)
		if p != nil && p.RetryAfter > 0 {
			wait = min(p.RetryAfter, maxAsked)
		}
		if waited += wait; max(waited, time.Since(began)) > limit {
			return fmt.Errorf("gave up after %s: %w", limit, err)
		}
		if c.told != nil {
			c.told(err, wait)
		}
		if stop := c.pause(ctx, wait); stop != nil {
			return stop
		}
	}
}

// passing reports whether a later try of the same call may succeed, and for how long to try.
func passing(err error) (limit time.Duration, again bool) {
	var p *Problem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return patience, true
		case http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError:
			return reach, true
		}
		return 0, false
	}
	var ours *localError
	if errors.As(err, &ours) {
		return 0, false
	}
	var broken *url.Error
	return reach, errors.As(err, &broken) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// localError is a failure on our side of the connection, such as a file that cannot be read or written.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// Problem is an answer that is not success (RFC 9457).
type Problem struct {
	Status int
	Code   string
	Title  string
	Detail string
	Errors []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	}
	// RetryAfter is how long the server asks to wait, 0 when it does not say.
	RetryAfter time.Duration
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = http.StatusText(p.Status)
	}
	return fmt.Sprintf("%s (%d)", text, p.Status)
}

func readProblem(resp *http.Response) error {
	p := &Problem{Status: resp.StatusCode}
	// What cannot be decoded, a proxy's page say, is told by its status alone.
	if raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err == nil {
		_ = json.Unmarshal(raw, p)
		p.Status = resp.StatusCode
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		p.RetryAfter = time.Duration(s) * time.Second
	}
	return p
}
