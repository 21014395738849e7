package outbound_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
	"comfyfleet/models"
)

// loopback is a client that may reach the servers of a test.
func loopback(t *testing.T) *outbound.Client {
	t.Helper()
	c := outbound.New(outbound.Options{
		Allow:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		UserAgent: "comfyfleet/test",
	})
	t.Cleanup(c.Close)
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func requireProblem(t *testing.T, err error, name, words string) {
	t.Helper()
	var e *models.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, models.CodeInvalid, e.Code)
	assert.Equal(t, name, e.Name, e.Detail)
	assert.Contains(t, e.Detail, words)
	assert.NotContains(t, e.Detail, "127.0.0.1", "what tenants read names no address of ours")
}

func TestFetchStreamsTheFileAndItsType(t *testing.T) {
	content := bytes.Repeat([]byte{1, 2, 3, 0}, 50_000)
	var agent, encoding atomic.Value
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		agent.Store(r.UserAgent())
		encoding.Store(r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Type", "Image/PNG; charset=binary")
		_, _ = w.Write(content)
	})
	var got bytes.Buffer
	f, err := loopback(t).Fetch(t.Context(), url+"/a.png", &got, int64(len(content)))
	require.NoError(t, err)
	assert.Equal(t, outbound.Fetched{ContentType: "image/png", Size: int64(len(content))}, f)
	assert.True(t, bytes.Equal(content, got.Bytes()))
	assert.Equal(t, "comfyfleet/test", agent.Load())
	assert.Equal(t, "identity", encoding.Load())
}

func TestFetchRefusesWhatIsNoMedia(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n rest"
	for name, c := range map[string]struct {
		header  map[string]string
		status  int
		body    string
		problem string
		words   string
	}{
		"html":                {header: map[string]string{"Content-Type": "text/html; charset=utf-8"}, body: "<p>", problem: "content_type_refused", words: "text/html"},
		"json":                {header: map[string]string{"Content-Type": "application/json"}, body: "{}", problem: "content_type_refused", words: "application/json"},
		"problem":             {header: map[string]string{"Content-Type": "application/problem+json"}, body: "{}", problem: "content_type_refused", words: "problem+json"},
		"xhtml":               {header: map[string]string{"Content-Type": "application/xhtml+xml"}, body: "<p>", problem: "content_type_refused", words: "xhtml"},
		"no type, text":       {header: map[string]string{"Content-Type": ""}, body: "root:x:0:0:root", problem: "content_type_refused", words: "text/plain"},
		"a strange type":      {header: map[string]string{"Content-Type": "png"}, body: png},
		"nonsense":            {header: map[string]string{"Content-Type": "/;;"}, body: png, problem: "content_type_refused", words: "no content type"},
		"no type, image":      {header: map[string]string{"Content-Type": ""}, body: png},
		"svg":                 {header: map[string]string{"Content-Type": "image/svg+xml"}, body: "<svg/>"},
		"octets":              {header: map[string]string{"Content-Type": "application/octet-stream"}, body: png},
		"compressed":          {header: map[string]string{"Content-Type": "image/png", "Content-Encoding": "gzip"}, body: png, problem: "fetch_failed", words: "compressed"},
		"empty":               {header: map[string]string{"Content-Type": "image/png"}, problem: "fetch_failed", words: "empty"},
		"not found":           {status: 404, problem: "fetch_failed", words: "404 Not Found"},
		"no content":          {status: 204, problem: "fetch_failed", words: "204"},
		"wants a password":    {status: 401, problem: "fetch_failed", words: "401"},
		"one byte over":       {header: map[string]string{"Content-Type": "image/png"}, body: strings.Repeat("x", 101), problem: "media_too_large", words: "100 bytes"},
		"one over, unsized":   {header: map[string]string{"Content-Type": "image/png", "Transfer-Encoding": "chunked"}, body: strings.Repeat("x", 101), problem: "media_too_large", words: "100 bytes"},
		"exactly the limit":   {header: map[string]string{"Content-Type": "image/png"}, body: strings.Repeat("x", 100)},
		"redirect to nowhere": {status: 302, problem: "fetch_failed", words: "302"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				for k, v := range c.header {
					if v == "" {
						w.Header()[k] = nil // keeps net/http from guessing one
						continue
					}
					w.Header().Set(k, v)
				}
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				_, _ = io.WriteString(w, c.body)
			})
			_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 100)
			if c.problem == "" {
				require.NoError(t, err)
			} else if name == "redirect to nowhere" {
				require.Error(t, err)
			} else {
				requireProblem(t, err, c.problem, c.words)
				assert.EqualValues(t, 1, calls.Load(), "trying again would not help")
			}
		})
	}
}

func TestFetchTriesAgainWhenTheServerIsBusyOrBroken(t *testing.T) {
	for _, status := range []int{429, 500, 502, 503} {
		var calls atomic.Int32
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) < 3 {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, "png")
		})
		_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 100)
		assert.NoError(t, err, "%d", status)
		assert.EqualValues(t, 3, calls.Load(), "%d", status)
	}
	var calls atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); w.WriteHeader(503) })
	_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 100)
	requireProblem(t, err, "fetch_failed", "503")
	assert.EqualValues(t, 3, calls.Load(), "but not for ever")
}

func TestFetchTriesAgainWhenTheConnectionBreaks(t *testing.T) {
	var calls atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(w, "png")
	})
	_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 100)
	assert.NoError(t, err)
}

func TestFetchSaysWhenADownloadBreaksOff(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "only this")
	})
	_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 10_000)
	requireProblem(t, err, "fetch_failed", "broke off")
}

func TestFetchEndsWithItsContext(t *testing.T) {
	arrived, release := make(chan struct{}, 4), make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	t.Cleanup(func() { close(release) }) // runs before the server's Close, which waits for its handlers
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	c := loopback(t)
	go func() { _, err := c.Fetch(ctx, url, io.Discard, 100); ended <- err }()
	<-arrived
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Fetch(short, url, io.Discard, 100)
	requireProblem(t, err, "fetch_failed", "too long")
}

func TestFetchGivesBackTheWritersOwnError(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(w, "png")
	})
	full := &models.Error{Code: models.CodeFull, Detail: "full"}
	_, err := loopback(t).Fetch(t.Context(), url, failingWriter{full}, 100)
	assert.Equal(t, models.CodeFull, models.ErrorCode(err))
	plain := errors.New("broken pipe inside")
	_, err = loopback(t).Fetch(t.Context(), url, failingWriter{plain}, 100)
	assert.ErrorIs(t, err, plain)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestFetchFollowsAFewRedirectsWithoutTellingWhereItCameFrom(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Referer"))
		var n int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
		if n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(w, "png")
	})
	_, err := loopback(t).Fetch(t.Context(), url+"/3", io.Discard, 100)
	assert.NoError(t, err)
	_, err = loopback(t).Fetch(t.Context(), url+"/4", io.Discard, 100)
	requireProblem(t, err, "fetch_failed", "redirects")
}

func TestFetchChecksEveryRedirect(t *testing.T) {
	var inside atomic.Int32
	secret := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { inside.Add(1); w.WriteHeader(500) }))
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("needs IPv6 loopback for an address that is not allowed: ", err)
	}
	secret.Listener = listener
	secret.Start()
	defer secret.Close()
	for target, problem := range map[string]string{
		secret.URL:                         "address_refused",
		"http://169.254.169.254/latest/":   "address_refused",
		"http://2130706433/":               "bad_url",
		"file:///etc/passwd":               "bad_url",
		"http://user:pw@127.0.0.1/":        "bad_url",
		"http://[::ffff:169.254.169.254]/": "address_refused",
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target)
			w.WriteHeader(http.StatusFound)
		})
		_, err := loopback(t).Fetch(t.Context(), url, io.Discard, 100)
		requireProblem(t, err, problem, "")
	}
	assert.Zero(t, inside.Load(), "nothing was sent inside")
}

func TestNamesThatResolveInsideAreRefusedAtConnect(t *testing.T) {
	var inside atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { inside.Add(1); w.WriteHeader(500) })
	_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	c := outbound.New(outbound.Options{Resolver: fakeDNS(t, map[string]netip.Addr{
		"rebound.example.": netip.MustParseAddr("127.0.0.1"),
		"cloud.example.":   netip.MustParseAddr("169.254.169.254"),
	})})
	defer c.Close()
	messages := map[string]bool{}
	for _, host := range []string{"rebound.example", "cloud.example", "missing.example"} {
		target := "http://" + host + ":" + port + "/"
		require.NoError(t, c.Check(target), "its form is fine")
		_, err := c.Fetch(t.Context(), target, io.Discard, 100)
		requireProblem(t, err, "address_refused", "public address")
		var e *models.Error
		require.ErrorAs(t, err, &e)
		messages[e.Detail] = true
		_, err = c.Post(t.Context(), target, nil, []byte("{}"), time.Minute)
		requireProblem(t, err, "address_refused", "public address")
	}
	assert.Len(t, messages, 1, "inside and missing must read alike")
	assert.Zero(t, inside.Load())

	_, err = outbound.New(outbound.Options{}).Fetch(t.Context(), "http://localhost:"+port, io.Discard, 100)
	requireProblem(t, err, "address_refused", "")
}

func TestProxyVariablesAreIgnored(t *testing.T) {
	var proxied atomic.Int32
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { proxied.Add(1) })
	t.Setenv("HTTP_PROXY", proxy)
	t.Setenv("HTTPS_PROXY", proxy)
	c := outbound.New(outbound.Options{Resolver: fakeDNS(t, nil)})
	_, err := c.Fetch(t.Context(), "http://media.example/a.png", io.Discard, 100)
	require.Error(t, err)
	assert.Zero(t, proxied.Load())
}

func TestCertificatesAreVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "image/png") }))
	s.Config.ErrorLog = nil
	defer s.Close()
	_, err := loopback(t).Fetch(t.Context(), s.URL, io.Discard, 100)
	requireProblem(t, err, "fetch_failed", "TLS certificate")
}

// fakeDNS is a resolver that knows only the given names, each with one IPv4 address.
func fakeDNS(t *testing.T, names map[string]netip.Addr) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := dnsReply(buf[:n], names); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsReply answers one question (RFC 1035 §4.1): the address, nothing for another type, or "no such name".
func dnsReply(query []byte, names map[string]netip.Addr) []byte {
	if len(query) < 12 {
		return nil
	}
	name, i := "", 12
	for i < len(query) && query[i] != 0 {
		l := int(query[i])
		if i+1+l > len(query) {
			return nil
		}
		name += string(query[i+1:i+1+l]) + "."
		i += 1 + l
	}
	end := i + 5
	if end > len(query) {
		return nil
	}
	addr, known := names[strings.ToLower(name)]
	isA := binary.BigEndian.Uint16(query[i+1:]) == 1
	reply := make([]byte, 12, end+16)
	copy(reply, query[:2])
	reply[2], reply[3] = 0x84|query[2]&1, 0x80
	if !known {
		reply[3] |= 3 // NXDOMAIN
	}
	reply[5] = 1 // one question
	reply = append(reply, query[12:end]...)
	if known && isA {
		reply[7] = 1 // one answer
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, addr.AsSlice()...)
	}
	return reply
}
