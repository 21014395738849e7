package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// contract is a transport that holds everything that passes against openapi.yaml: an undocumented route, status, field,
// header or problem code fails the test.
type contract struct {
	t      *testing.T
	router routers.Router
	codes  map[string]int
}

// document is the API description as the server publishes it.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	b, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(openapi3.NewLoader().Context)
})

func newContract(t *testing.T, _ string) *contract {
	t.Helper()
	doc, err := document()
	require.NoError(t, err)
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return &contract{t: t, router: router, codes: documentedCodes(t)}
}

func documentedCodes(t *testing.T) map[string]int {
	b, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	var d struct {
		Codes []struct {
			Code   string
			Status int
		} `yaml:"x-problem-codes"`
	}
	require.NoError(t, yaml.Unmarshal(b, &d))
	codes := map[string]int{}
	for _, c := range d.Codes {
		require.NotContains(t, codes, c.Code, "listed twice")
		codes[c.Code] = c.Status
	}
	return codes
}

// RoundTrip sends the request and checks both directions.
func (c *contract) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	isJSON := req.Header.Get("Content-Type") == "application/json"
	if isJSON && req.Body != nil && req.ContentLength > 0 && req.ContentLength < 1<<20 {
		sent, _ = io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	r, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if req.Method == http.MethodHead {
		return r, nil
	}
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		if r.StatusCode != http.StatusNotFound && r.StatusCode != http.StatusMethodNotAllowed {
			c.t.Errorf("%s %s is not documented: %v", req.Method, req.URL.Path, err)
		}
		return r, nil
	}
	in := &openapi3filter.RequestValidationInput{
		Request: req.Clone(req.Context()), PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true,
			ExcludeRequestBody: sent == nil, SkipSettingDefaults: true,
		},
	}
	in.Request.Body = io.NopCloser(bytes.NewReader(sent))
	if r.StatusCode < 400 {
		if err := openapi3filter.ValidateRequest(req.Context(), in); err != nil {
			c.t.Errorf("%s %s took an undocumented request: %v", req.Method, req.URL.Path, err)
		}
	}
	c.checkAnswer(in, r)
	return r, nil
}

func (c *contract) checkAnswer(in *openapi3filter.RequestValidationInput, r *http.Response) {
	kind := r.Header.Get("Content-Type")
	options := *in.Options
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: r.StatusCode, Header: r.Header, Options: &options}
	if strings.HasSuffix(kind, "json") && !strings.HasPrefix(in.Route.Path, "/v1/outputs/") || kind == "application/problem+json" {
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(b))
		if err != nil {
			c.t.Errorf("%s: read answer: %v", in.Route.Path, err)
			return
		}
		out.SetBodyBytes(b)
		c.checkCode(r, kind, b)
	} else {
		out.Body = io.NopCloser(bytes.NewReader(nil))
		options.ExcludeResponseBody = true
	}
	if err := openapi3filter.ValidateResponse(in.Request.Context(), out); err != nil {
		c.t.Errorf("%s %s answered %d, undocumented: %v", in.Request.Method, in.Route.Path, r.StatusCode, err)
	}
}

func (c *contract) checkCode(r *http.Response, kind string, body []byte) {
	if r.StatusCode >= 400 && kind != "application/problem+json" {
		c.t.Errorf("an error as %s", kind)
	}
	if kind != "application/problem+json" {
		return
	}
	var p struct{ Code string }
	if err := json.Unmarshal(body, &p); err != nil {
		c.t.Errorf("problem: %v", err)
	}
	if status, ok := c.codes[p.Code]; !ok || status != r.StatusCode {
		c.t.Errorf("problem code %q with status %d is not documented so (%d)", p.Code, r.StatusCode, status)
	}
}

// TestEveryProblemCodeIsDocumented looks for codes in the sources of everything that can answer a tenant, so that one
// that no test provokes is in the table too.
func TestEveryProblemCodeIsDocumented(t *testing.T) {
	codes := documentedCodes(t)
	// What only operators and commands can provoke.
	elsewhere := map[string]bool{
		"unknown_scope": true, "weak_password": true, "sign_in_busy": true, "sign_in_limited": true, "bad_name": true,
		"job_not_finished": true, "not_queued": true, "tenant_has_jobs": true, "slug_taken": true, "already_exists": true,
		"attempt_fenced": true, "signed_out": true, "role": true, "bad_filter": true,
	}
	named := regexp.MustCompile(`(?:Errorf\(models\.Code\w+, |\bName: |\bErrName\w+ += |\bproblem\([\w.]+, )"([a-z_]+)"`)
	found := 0
	for _, dir := range []string{"../api", "../server", "../jobs", "../auth", "../outbound", "../storage", "../../workflows", "../../models", "../../models/store"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			src, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range named.FindAllStringSubmatch(string(src), -1) {
				found++
				if _, ok := codes[m[1]]; !ok && !elsewhere[m[1]] {
					t.Errorf("%s: problem code %q is not in openapi.yaml", file, m[1])
				}
			}
		}
	}
	require.Greater(t, found, 80, "the pattern still finds the codes")
}

// TestEveryCauseIsDocumented holds the table of error_code against the causes that can fail a job.
func TestEveryCauseIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	src, err := os.ReadFile("../../models/attempt.go")
	require.NoError(t, err)
	causes := regexp.MustCompile(`Cause\w+ +Cause = "([a-z_]+)"`).FindAllStringSubmatch(string(src), -1)
	require.Greater(t, len(causes), 10)
	for _, c := range causes {
		if c[1] != "taken_back" && c[1] != "server_stopped" { // these end an attempt, never a job
			require.Contains(t, string(doc), "- {code: "+c[1]+", meaning")
		}
	}
}

func TestPublishedDescriptionIsTheOneThatIsTested(t *testing.T) {
	w := newWorld(t)
	a := w.get("", "/openapi.json")
	require.Equal(t, http.StatusOK, a.status)
	published, err := openapi3.NewLoader().LoadFromData(a.body)
	require.NoError(t, err)
	doc, err := document()
	require.NoError(t, err)
	require.Equal(t, doc.Paths.InMatchingOrder(), published.Paths.InMatchingOrder())
	require.Equal(t, http.StatusOK, w.get("", "/docs").status)
}
