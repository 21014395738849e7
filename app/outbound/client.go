package outbound

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"code.dny.dev/ssrf"

	"comfyfleet/models"
)

const (
	connectLimit   = 10 * time.Second
	handshakeLimit = 10 * time.Second
	// answerLimit is how long a server may think before its headers come; a webhook's own timeout is shorter or longer.
	answerLimit = 15 * time.Second
	// maxHeader bounds the headers of an answer in bytes.
	maxHeader = 64 << 10
	// maxRedirects is how many a download follows. A webhook follows none.
	maxRedirects = 3
	// maxIdle connections are kept for idleLife, so that a tenant's webhooks need no handshake each.
	maxIdle  = 64
	idleLife = 30 * time.Second
	// maxPerHost bounds what we open to one host, whoever asks; more wait within their own limits.
	maxPerHost = 32
)

// Options are what a Client is made of.
type Options struct {
	// Allow are ranges that may be reached although they are not global, e.g. an office network's media server.
	Allow []netip.Prefix
	// UserAgent says who calls.
	UserAgent string
	// Resolver looks names up; nil for the system's.
	Resolver *net.Resolver
}

// Client makes requests to addresses that are not ours. It is safe for concurrent use.
type Client struct {
	userAgent string
	guard     *ssrf.Guardian
	transport *http.Transport
	// following follows redirects, each checked; staying answers them as they are.
	following *http.Client
	staying   *http.Client
}

// New makes a client. Close releases its idle connections.
func New(o Options) *Client {
	var v4, v6 []netip.Prefix
	for _, p := range o.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	c := &Client{
		userAgent: o.UserAgent,
		guard:     ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
	}
	dialer := &net.Dialer{Timeout: connectLimit, Control: c.guard.Safe, Resolver: o.Resolver}
	c.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    handshakeLimit,
		ResponseHeaderTimeout:  answerLimit,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    2,
		MaxConnsPerHost:        maxPerHost,
		IdleConnTimeout:        idleLife,
		ForceAttemptHTTP2:      true,
		// Sizes are limits on what came over the wire; a bomb must not be inflated on the way.
		DisableCompression: true,
	}
	c.following = &http.Client{Transport: c.transport, CheckRedirect: c.checkRedirect}
	c.staying = &http.Client{Transport: c.transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c
}

// Close closes the idle connections. Requests under way end by their own contexts.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func (c *Client) checkRedirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return models.Errorf(models.CodeInvalid, "fetch_failed", "more than %d redirects", maxRedirects)
	}
	// net/http puts the previous address there; it may hold a signature that is none of the next server's business.
	next.Header.Del("Referer")
	return c.checkURL(next.URL)
}

func (c *Client) request(ctx context.Context, method, address string) (*http.Request, error) {
	u, err := c.parse(address)
	if err != nil {
		return nil, err
	}
	r := (&http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	r.Header.Set("User-Agent", c.userAgent)
	return r, nil
}
