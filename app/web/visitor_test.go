package web

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// patience bounds every wait of these tests.
const patience = time.Minute

// visitor is a browser without a screen: it keeps a session's cookie and token and follows no redirect.
type visitor struct {
	t      testing.TB
	base   string
	cookie string
	csrf   string
	// plain leaves out what our script adds: the header of htmx and the token.
	plain  bool
	client *http.Client
}

// visit opens the dashboard of h with a signed-in person of a role; "" for nobody.
func (h *house) visit(t testing.TB, role models.Role) *visitor {
	t.Helper()
	v := &visitor{t: t, base: h.open(t), client: &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if role != "" {
		cookie, s := h.signIn(role)
		v.cookie, v.csrf = cookie, auth.CSRFToken(s)
	}
	return v
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) doc(t testing.TB) *goquery.Document {
	t.Helper()
	d, err := goquery.NewDocumentFromReader(strings.NewReader(r.body))
	require.NoError(t, err)
	return d
}

func (v *visitor) request(method, path, contentType string, body io.Reader) *http.Request {
	v.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, v.base+path, body)
	require.NoError(v.t, err)
	req.Header.Set("Accept", "text/html")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if v.cookie != "" {
		req.AddCookie(&http.Cookie{Name: sessionCookie, Value: v.cookie})
	}
	if !v.plain && method == http.MethodPost {
		req.Header.Set("HX-Request", "true")
		req.Header.Set(csrfHeader, v.csrf)
	}
	return req
}

func (v *visitor) do(req *http.Request) reply {
	v.t.Helper()
	resp, err := v.client.Do(req)
	require.NoError(v.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(v.t, err)
	return reply{resp.StatusCode, resp.Header, string(body)}
}

func (v *visitor) get(path string) reply {
	v.t.Helper()
	return v.do(v.request(http.MethodGet, path, "", nil))
}

func (v *visitor) post(path string, form url.Values) reply {
	v.t.Helper()
	return v.do(v.request(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode())))
}

// upload posts one file the way a file input does.
func (v *visitor) upload(path, name string, content []byte) reply {
	v.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile("file", name)
	require.NoError(v.t, err)
	_, err = part.Write(content)
	require.NoError(v.t, err)
	require.NoError(v.t, w.Close())
	return v.do(v.request(http.MethodPost, path, w.FormDataContentType(), &b))
}

// page opens a page that must be there.
func (v *visitor) page(path string) *goquery.Document {
	v.t.Helper()
	r := v.get(path)
	require.Equal(v.t, http.StatusOK, r.status, "%s: %s", path, r.body)
	return r.doc(v.t)
}

// event is one server-sent event.
type event struct{ name, data string }

// follow opens a stream. Its events come until the test ends.
func (v *visitor) follow(path string) <-chan event {
	v.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req := v.request(http.MethodGet, path, "", nil).WithContext(ctx)
	resp, err := (&http.Client{}).Do(req)
	require.NoError(v.t, err)
	require.Equal(v.t, http.StatusOK, resp.StatusCode)
	require.Contains(v.t, resp.Header.Get("Content-Type"), "text/event-stream")
	events := make(chan event, 64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(events)
		defer resp.Body.Close()
		var e event
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				e.name = value
			case "data":
				e.data += value + "\n"
			case "":
				if e.name != "" {
					select {
					case events <- e:
					case <-ctx.Done():
						return
					}
				}
				e = event{}
			}
		}
	}()
	v.t.Cleanup(func() { cancel(); <-ended })
	return events
}

// await reads events until one fits.
func await(t testing.TB, events <-chan event, fits func(event) bool) event {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case e, ok := <-events:
			require.True(t, ok, "the stream ended")
			if fits(e) {
				return e
			}
		case <-limit:
			require.Fail(t, "the event did not come")
		}
	}
}

func testid(id string) string { return `[data-testid="` + id + `"]` }

func words(s *goquery.Selection) string { return strings.Join(strings.Fields(s.Text()), " ") }
