package comfy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"comfyfleet/gpu"
)

const (
	// callWait caps calls that answer at once. ComfyUI's only loop can be held up for seconds by a garbage collection
	// or a node that computes in Python; a shorter limit would call a busy engine dead. Callers set their own.
	callWait = 30 * time.Second
	// defsWait caps /object_info, which lists every model file of every loader: seconds on a cold network disk.
	defsWait = 2 * time.Minute

	// smallLimit is the most that a short answer may be, in bytes; answerLimit bounds /queue and /history, which carry
	// whole graphs; defsLimit bounds /object_info (several MB with many custom nodes).
	smallLimit  = 1 << 20
	answerLimit = 64 << 20
	defsLimit   = 256 << 20

	// maxConns bounds the connections to one engine, separately for calls and for files, so that slow downloads never
	// hold up a probe.
	maxConns = 16
)

// Options adjust a Client. The zero value is right for a real engine; tests shorten the waits.
type Options struct {
	// PingEvery is the time between pings on the WebSocket (0: 5 s); a socket that says nothing for PongWait
	// (0: 20 s), not even a pong, is given up.
	PingEvery time.Duration
	PongWait  time.Duration
	// RedialMin and RedialMax bound the growing pause before the next dial (0: 250 ms and 5 s).
	RedialMin time.Duration
	RedialMax time.Duration
	// Now is the clock of events; nil for the real one.
	Now func() time.Time
}

// Client is one ComfyUI server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	// bad is why the address cannot be used; every call answers it.
	bad   error
	calls *http.Client
	files *http.Client
	dials func(ctx context.Context, network, address string) (net.Conn, error) // of the WebSocket
	opts  Options
}

var _ gpu.Engine = (*Client)(nil)

// New makes a client for the server at baseURL, e.g. http://127.0.0.1:8188; a path prefix and user:password are
// allowed. A wrong address is reported by the calls.
func New(baseURL string, opts Options) *Client {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&opts.PingEvery, 5*time.Second)
	set(&opts.PongWait, 20*time.Second)
	set(&opts.RedialMin, 250*time.Millisecond)
	set(&opts.RedialMax, 5*time.Second)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &Client{opts: opts, calls: httpClient(), files: httpClient(), dials: dialer.DialContext}
	c.base, c.bad = url.Parse(strings.TrimRight(baseURL, "/"))
	if c.bad == nil && (c.base.Scheme != "http" && c.base.Scheme != "https" || c.base.Host == "") {
		c.bad = fmt.Errorf("the engine's address %q is not an http URL", baseURL)
	}
	return c
}

// dialer makes the connections to engines.
var dialer = &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}

// httpClient ignores proxy settings: an engine is reached directly, or not at all. It never follows redirects: ComfyUI
// sends none, so one means that something else answers.
func httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxConnsPerHost:     maxConns,
			MaxIdleConnsPerHost: 4,
			// Shorter than the server's keep-alive, so that a POST rarely meets a connection that was just closed.
			IdleConnTimeout:    15 * time.Second,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close drops idle connections. Calls and a Watch that run are ended by their contexts.
func (c *Client) Close() error {
	c.calls.CloseIdleConnections()
	c.files.CloseIdleConnections()
	return nil
}

// request is one short call.
type request struct {
	method string
	path   string
	body   any           // sent as JSON; nil for none
	wait   time.Duration // 0: callWait
	limit  int64         // of the answer, in bytes; 0: smallLimit
}

// call sends a request and returns the whole answer. A status other than 200 is a *statusError.
func (c *Client) call(ctx context.Context, r request) ([]byte, error) {
	if r.wait == 0 {
		r.wait = callWait
	}
	if r.limit == 0 {
		r.limit = smallLimit
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		raw, err := encode(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := c.request(ctx, r.method, r.path, nil, body)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.calls.Do(req)
	if err != nil {
		return nil, unreachable(r.method, r.path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, newStatusError(r.method, r.path, resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, r.limit+1))
	if err != nil {
		return nil, unreachable(r.method, r.path, err)
	}
	if int64(len(raw)) > r.limit {
		return nil, fmt.Errorf("%s %s: %w (%d bytes)", r.method, r.path, errTooLarge, r.limit)
	}
	return raw, nil
}

// request builds a request below the base address.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	if c.bad != nil {
		return nil, c.bad
	}
	u := *c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("User-Agent", "comfyfleet")
	return req, nil
}

// encode writes JSON without the escapes that are meant for HTML, so that prompts stay as they were sent.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
