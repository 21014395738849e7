package api_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/app/api"
	"comfyfleet/models"
)

func TestSignedURLsOpenTheirOutputForAnHour(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	w.dispatch()
	w.until(id, "completed")
	raw := w.get("acme", "/v1/jobs/"+id).body
	var job struct{ Outputs []map[string]any }
	require.NoError(t, json.Unmarshal(raw, &job))
	first := job.Outputs[0]
	link := first["url"].(string)
	require.True(t, strings.HasPrefix(link, w.url+"/v1/outputs/"), link)
	require.Contains(t, string(raw), `"`+link+`"`, "as it stands in the text, for who copies it")
	want := resultOf(id[:8] + "_out_00001_.png")

	a := w.get("", link)
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, want, a.body)
	require.Equal(t, "image/png", a.header.Get("Content-Type"))
	a = w.call("", http.MethodGet, link, nil, "Range", "bytes=1-3")
	require.Equal(t, http.StatusPartialContent, a.status)
	require.Equal(t, "PNG", string(a.body))
	a = w.call("", http.MethodGet, link, nil, "Range", "bytes=99999999-")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, a.status)
	a = w.call("", http.MethodGet, link, nil, "If-None-Match", `"`+first["sha256"].(string)+`"`)
	require.Equal(t, http.StatusNotModified, a.status)
	require.Equal(t, int64(len(want)), w.head(link))

	page := w.get("", job.Outputs[1]["url"].(string))
	require.Equal(t, "application/octet-stream", page.header.Get("Content-Type"))
	require.Contains(t, page.header.Get("Content-Disposition"), "attachment")
	require.Contains(t, page.header.Get("Content-Security-Policy"), "sandbox")

	parsed, err := url.Parse(link)
	require.NoError(t, err)
	for name, change := range map[string]func(q url.Values){
		"another time":     func(q url.Values) { q.Set("expires", "99999999999") },
		"upper-case":       func(q url.Values) { q.Set("signature", strings.ToUpper(q.Get("signature"))) },
		"another key":      func(q url.Values) { q.Set("key", "k1") },
		"unknown key":      func(q url.Values) { q.Set("key", "k9") },
		"no expiry":        func(q url.Values) { q.Del("expires") },
		"another's output": func(q url.Values) { parsed.Path = "/v1/outputs/" + job.Outputs[1]["output_id"].(string) },
	} {
		u, q := *parsed, parsed.Query()
		change(q)
		u.Path, u.RawQuery = parsed.Path, q.Encode()
		a := w.get("", u.String())
		require.Equal(t, http.StatusForbidden, a.status, name)
		require.Equal(t, "bad_signature", a.object(t)["code"], name)
	}
	w.clock.forward(time.Hour)
	a = w.get("", link)
	require.Equal(t, "url_expired", a.object(t)["code"])
}

func (w *world) head(link string) int64 {
	r, err := http.Head(link)
	require.NoError(w.t, err)
	defer r.Body.Close()
	return r.ContentLength
}

func TestPreviousSigningKeyStaysGood(t *testing.T) {
	now := time.Now
	older, newer := api.SignKey{ID: "1", Secret: make([]byte, 32)}, api.SignKey{ID: "2", Secret: make([]byte, 32)}
	_, _ = rand.Read(newer.Secret)
	before, err := api.NewSigner(now, older)
	require.NoError(t, err)
	after, err := api.NewSigner(now, newer, older)
	require.NoError(t, err)
	u, err := url.Parse(before.Path("x"))
	require.NoError(t, err)
	q := u.Query()
	require.NoError(t, after.Verify("x", q.Get("expires"), q.Get("key"), q.Get("signature")))
	alone, err := api.NewSigner(now, newer)
	require.NoError(t, err)
	require.Error(t, alone.Verify("x", q.Get("expires"), q.Get("key"), q.Get("signature")))

	_, err = api.NewSigner(now)
	require.Error(t, err)
	_, err = api.NewSigner(now, api.SignKey{ID: "short", Secret: make([]byte, 31)})
	require.Error(t, err)
}

func TestLibraryShowsVersionsAndParameters(t *testing.T) {
	w := newWorld(t)
	acme, err := w.store.TenantByName(t.Context(), "acme")
	require.NoError(t, err)
	params := []byte(`[{"key":"prompt","label":"Prompt","type":"text","targets":[{"node":"1","field":"image"}],"default":"x"}]`)
	for _, wf := range []models.Workflow{{Slug: "everyone", Title: "For all"}, {Slug: "ours", Title: "Ours", TenantID: acme.ID}} {
		for _, g := range []string{graph, strings.Replace(graph, "out", "two", 1)} {
			_, err := w.store.PutVersion(t.Context(), wf, models.WorkflowVersion{Graph: []byte(g), Params: params, SHA256: g})
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.store.SetAlias(t.Context(), "everyone", "prod", 1, time.Now().UTC()))

	slugs := func(key string) (out []string) {
		for _, e := range w.get(key, "/v1/workflows").object(t)["workflows"].([]any) {
			out = append(out, e.(map[string]any)["slug"].(string))
		}
		return out
	}
	require.ElementsMatch(t, []string{"everyone", "ours"}, slugs("acme"))
	require.ElementsMatch(t, []string{"everyone"}, slugs("other"))
	one := w.get("acme", "/v1/workflows/everyone").object(t)
	require.EqualValues(t, 1, one["version"], "the prod alias decides")
	require.Contains(t, one["params"].(map[string]any)["properties"], "prompt")
	require.EqualValues(t, 2, w.get("acme", "/v1/workflows/ours").object(t)["version"])
	require.Equal(t, http.StatusNotFound, w.get("other", "/v1/workflows/ours").status)

	a := w.post("acme", `{"workflow_id":"everyone","params":{"nope":1}}`)
	require.Equal(t, http.StatusUnprocessableEntity, a.status)
	a = w.post("acme", `{"workflow_id":"everyone@2"}`)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	m := w.get("acme", "/v1/jobs/"+a.object(t)["job_id"].(string)).object(t)
	require.Equal(t, "everyone@2", m["workflow_id"])
}

func TestUsageIsByDay(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	w.dispatch()
	w.until(id, "completed")
	m := w.get("acme", "/v1/usage").object(t)
	require.EqualValues(t, 1, m["total"].(map[string]any)["jobs"])
	require.Len(t, m["usage"], 1)
	require.Equal(t, []any{}, w.get("other", "/v1/usage").object(t)["usage"])
	for query, field := range map[string]string{"from=x": "from", "to=2026-13-01": "to", "from=2026-02-01&to=2026-01-01": "from", "from=2020-01-01&to=2026-01-01": "from"} {
		a := w.get("acme", "/v1/usage?"+query)
		require.Equal(t, http.StatusBadRequest, a.status)
		require.Equal(t, field, a.object(t)["errors"].([]any)[0].(map[string]any)["field"])
	}
}

func TestHealthFollowsTheWorkers(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		state         models.WorkerState
		health        string
		answers, read int
	}{
		{models.WorkerReady, "ok", 1, 200},
		{models.WorkerBusy, "ok", 1, 200},
		{models.WorkerStopped, "ok", 0, 200},
		{models.WorkerStarting, "starting", 0, 503},
		{models.WorkerBackoff, "degraded", 0, 503},
		{models.WorkerQuarantined, "degraded", 0, 503},
		{models.WorkerDisabled, "degraded", 0, 503},
		{models.WorkerDraining, "ok", 1, 503},
	} {
		w.fleet.set(c.state)
		a := w.get("", "/health")
		require.Equal(t, http.StatusOK, a.status)
		m := a.object(t)
		require.Equal(t, c.health, m["status"], c.state)
		require.EqualValues(t, c.answers, m["workers_answering"], c.state)
		require.Equal(t, c.read, w.get("", "/readyz").status, c.state)
	}
	require.Equal(t, http.StatusOK, w.get("", "/livez").status)
}
