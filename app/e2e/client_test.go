package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// answer is an HTTP answer with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// api sends one request of the /v1 API with the test's key: the bootstrap key, if it has no other.
func (s *service) api(method, path string, body any) answer {
	s.t.Helper()
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		require.NoError(s.t, err)
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, r)
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	return do(s.t, &http.Client{Timeout: patience}, req)
}

func do(t *testing.T, c *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(raw)}
}

// status is the part of a job's status that tests here look at.
type status struct {
	ID      string `json:"job_id"`
	Status  string
	Error   string
	Outputs []struct {
		ID       string `json:"output_id"`
		Filename string
		Type     string
		SHA256   string
		NodeID   string `json:"node_id"`
		URL      string
	}
}

// submit submits a job and answers its id.
func (s *service) submit(request map[string]any) string {
	s.t.Helper()
	a := s.api("POST", "/v1/jobs", request)
	require.Equal(s.t, 200, a.status, a.body)
	var made status
	require.NoError(s.t, json.Unmarshal([]byte(a.body), &made))
	return made.ID
}

func (s *service) job(id string) (job status) {
	s.t.Helper()
	a := s.api("GET", "/v1/jobs/"+id+"?data=none", nil)
	require.Equal(s.t, 200, a.status, a.body)
	require.NoError(s.t, json.Unmarshal([]byte(a.body), &job))
	return job
}

// finish waits until a job is final, in the state that is expected.
func (s *service) finish(id, want string) (job status) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		job = s.job(id)
		return job.Status == "completed" || job.Status == "failed"
	}, patience, tick, "job %s did not end", id)
	require.Equal(s.t, want, job.Status, job.Error)
	return job
}

// steps is a graph that takes a while: its steps report progress and previews.
func steps(count int, delay float64) map[string]any {
	return map[string]any{
		"1": map[string]any{"class_type": "EmptyImage", "inputs": map[string]any{"width": 96, "height": 64, "batch_size": 1, "color": 4210752}},
		"2": map[string]any{"class_type": "SimSteps", "inputs": map[string]any{"image": []any{"1", 0}, "steps": count, "delay": delay, "preview": true, "seed": count}},
		"3": map[string]any{"class_type": "SaveImage", "inputs": map[string]any{"images": []any{"2", 0}, "filename_prefix": "steps"}},
	}
}

// endless is a graph that outlasts any test, at a pace that leaves the machine to others.
func endless(n int) map[string]any { return steps(20_000+n, 2) }

// session is somebody who is signed in, without a browser.
type session struct {
	t    *testing.T
	base string
	http *http.Client
	csrf string
}

func signIn(t *testing.T, s *service, email string) *session {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &session{t: t, base: s.base, http: &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	a := p.send("POST", "/signin", "application/x-www-form-urlencoded", strings.NewReader(url.Values{"email": {email}, "password": {adminPassword}}.Encode()), nil)
	require.Equal(t, http.StatusSeeOther, a.status, a.body)
	page := p.get("/overview")
	token := regexp.MustCompile(`<meta name="csrf" content="([^"]+)"`).FindStringSubmatch(page.body)
	require.NotNil(t, token, page.body)
	p.csrf = token[1]
	return p
}

func (p *session) get(path string) answer { return p.send("GET", path, "", nil, nil) }

func (p *session) send(method, path, contentType string, body io.Reader, header map[string]string) answer {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.base+path, body)
	require.NoError(p.t, err)
	req.Header.Set("Accept", "text/html")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	return do(p.t, p.http, req)
}

// upload sends a file as the dashboard's script does.
func (p *session) upload(path, name string, content []byte) answer {
	p.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", name)
	require.NoError(p.t, err)
	_, err = part.Write(content)
	require.NoError(p.t, err)
	require.NoError(p.t, w.Close())
	return p.send("POST", path, w.FormDataContentType(), &body, map[string]string{"X-CSRF-Token": p.csrf, "HX-Request": "true"})
}

func hashOf[T string | []byte](b T) string {
	sum := sha256.Sum256([]byte(b))
	return hex.EncodeToString(sum[:])
}
