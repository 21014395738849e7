package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/api"
	"comfyfleet/app/server"
	"comfyfleet/gpu"
	"comfyfleet/models"
)

func TestAJobGoesFromSubmissionToDecodedOutputs(t *testing.T) {
	w := newWorld(t)
	a := w.post("acme", `{
		"media":[{"name":"in.png","data":"`+picture+`"}],
		"inputs":[{"node":2,"field":"filename_prefix","value":"x/out","type":"raw"}],
		"priority":0, "metadata":{"order":7}, "workflow":`+graph+`}`)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	m := a.object(t)
	require.Len(t, m, 4)
	require.Equal(t, "queued", m["status"])
	require.EqualValues(t, 30, m["estimated_time"])
	id := m["job_id"].(string)
	require.Equal(t, "/v1/jobs/"+id, a.header.Get("Location"))

	queued := w.get("acme", "/v1/jobs/"+id).object(t)
	require.Equal(t, "queued", queued["status"])
	require.EqualValues(t, 1, queued["queue_position"])
	for _, field := range []string{"progress", "progress_value", "progress_max", "nodes_total", "nodes_done"} {
		require.EqualValues(t, 0, queued[field], field)
	}
	for _, field := range []string{"current_node", "prompt_id", "last_event_time", "error"} {
		require.Contains(t, queued, field)
		require.Nil(t, queued[field], field)
	}
	require.Equal(t, []any{}, queued["outputs"])
	require.Equal(t, []any{}, queued["error_log_tail"])
	require.Equal(t, map[string]any{"order": 7.0}, queued["metadata"])

	w.dispatch()
	done := w.until(id, "completed")
	require.EqualValues(t, 100, done["progress"])
	require.Equal(t, done["nodes_total"], done["nodes_done"])
	require.Nil(t, done["current_node"])
	require.Equal(t, true, done["simulated"])
	outputs := done["outputs"].([]any)
	require.Len(t, outputs, 3)
	for i, want := range []struct{ name, kind string }{{id[:8] + "_out_00001.png", "image"}, {id[:8] + "_out_00001.html", "file"}, {"text_output_3.txt", "text"}} {
		o := outputs[i].(map[string]any)
		require.Equal(t, want.name, o["filename"])
		content, err := base64.StdEncoding.DecodeString(o["data"].(string))
		require.NoError(t, err)
		require.EqualValues(t, len(content), o["size_bytes"])
	}
	first, err := base64.StdEncoding.DecodeString(outputs[0].(map[string]any)["data"].(string))
	require.NoError(t, err)
	require.Equal(t, resultOf(id[:8]+"_out_00001_.png"), first)
	text, err := base64.StdEncoding.DecodeString(outputs[2].(map[string]any)["data"].(string))
	require.NoError(t, err)
	require.Equal(t, "hello", string(text))

	bare := w.get("acme", "/v1/jobs/"+id+"?data=none").object(t)
	require.Nil(t, bare["outputs"].([]any)[0].(map[string]any)["data"])
}

func TestEveryDoorIsClosedToStrangersAndOtherTenants(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	w.dispatch()
	done := w.until(id, "completed")
	output := done["outputs"].([]any)[0].(map[string]any)["output_id"].(string)
	doors := []struct {
		method, path string
		// reader is what a key with jobs:read gets, foreign what another tenant gets.
		reader, foreign int
	}{
		{"POST", "/v1/jobs", 403, 400},
		{"GET", "/v1/jobs", 200, 200},
		{"GET", "/v1/jobs/" + id, 200, 404},
		{"DELETE", "/v1/jobs/" + id, 403, 404},
		{"GET", "/v1/jobs/" + id + "/events", 200, 404},
		{"GET", "/v1/jobs/" + id + "/ws", 400, 404},
		{"GET", "/v1/outputs/" + output, 200, 404},
		{"GET", "/v1/workflows", 403, 200},
		{"GET", "/v1/workflows/none", 403, 404},
		{"GET", "/v1/usage", 403, 200},
	}
	for _, d := range doors {
		var body io.Reader
		if d.method == http.MethodPost {
			body = strings.NewReader("{}")
		}
		a := w.call("", d.method, d.path, body)
		require.Equal(t, 401, a.status, "%s %s without a key", d.method, d.path)
		a = w.call("", d.method, d.path, body, "Authorization", "Bearer cfk_wrong")
		require.Equal(t, 401, a.status, "%s %s with a wrong key", d.method, d.path)
		require.Equal(t, d.reader, w.call("reader", d.method, d.path, body).status, "%s %s with jobs:read", d.method, d.path)
		require.Equal(t, d.foreign, w.call("other", d.method, d.path, body).status, "%s %s as another tenant", d.method, d.path)
	}
	list := w.get("other", "/v1/jobs").object(t)
	require.Equal(t, []any{}, list["jobs"])
	unknown := w.get("acme", "/v1/jobs/"+uuid.NewString())
	foreign := w.get("other", "/v1/jobs/"+id)
	require.Equal(t, unknown.object(t)["detail"], foreign.object(t)["detail"], "not yours and not there look the same")
}

func TestBadSubmissionsNameTheFieldAndLeaveNothing(t *testing.T) {
	w := newWorld(t)
	media := func(items string) string { return `{"workflow":` + graph + `,"media":[` + items + `]}` }
	inputs := func(items string) string {
		return `{"workflow":` + graph + `,"media":[{"name":"in.png","data":"` + picture + `"}],"inputs":[` + items + `]}`
	}
	good := `{"name":"in.png","data":"` + picture + `"}`
	many := good
	for i := range 10 {
		many += `,{"name":"` + string(rune('a'+i)) + `","data":"` + picture + `"}`
	}
	urls := `{"name":"0","url":"http://192.0.2.1/x"}` + strings.Repeat(`,{"name":"x","url":"http://192.0.2.1/x"}`, 10)
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
		field  string
	}{
		"not JSON":            {`{"workflow":`, 400, "malformed_json", ""},
		"trailing garbage":    {`{} x`, 400, "malformed_json", ""},
		"a list":              {`[]`, 400, "wrong_type", ""},
		"empty":               {``, 400, "malformed_json", ""},
		"no workflow":         {`{}`, 400, "no_workflow", "workflow"},
		"null workflow":       {`{"workflow":null}`, 400, "no_workflow", "workflow"},
		"both":                {`{"workflow":` + graph + `,"workflow_id":"x"}`, 400, "two_workflows", "workflow_id"},
		"params alone":        {`{"workflow":` + graph + `,"params":{"a":1}}`, 400, "params_without_workflow_id", "params"},
		"unknown workflow":    {`{"workflow_id":"nothing"}`, 422, "unknown_workflow", "workflow_id"},
		"editor format":       {`{"workflow":{"nodes":[{"id":1,"type":"X"}],"links":[],"version":0.4}}`, 422, "editor_format", ""},
		"workflow is a text":  {`{"workflow":"x"}`, 422, "graph_malformed", ""},
		"empty graph":         {`{"workflow":{}}`, 422, "graph_empty", ""},
		"no output":           {`{"workflow":{"1":{"class_type":"X","inputs":{"a":["9",0]}}}}`, 422, "prompt_outputs_failed_validation", ""},
		"unknown node":        {inputs(`{"node":"99","field":"x","value":1}`), 422, "unknown_node", "inputs[0].node"},
		"missing field":       {inputs(`{"node":"2","field":"filename_prefix","value":"a"},{"node":"2","field":"nope","value":1}`), 422, "unknown_field", "inputs[1].field"},
		"input without node":  {inputs(`{"field":"x","value":1}`), 400, "input_without_node", "inputs[0].node"},
		"input without value": {inputs(`{"node":"2","field":"x"}`), 400, "input_without_value", "inputs[0].value"},
		"input is a text":     {inputs(`"x"`), 400, "wrong_type", "inputs[0]"},
		"node is a list":      {inputs(`{"node":[1],"field":"x","value":1}`), 400, "wrong_type", "inputs[0].node"},
		"node is 1.5":         {inputs(`{"node":1.5,"field":"x","value":1}`), 400, "wrong_type", "inputs[0].node"},
		"bad type":            {inputs(`{"node":"2","field":"x","value":1,"type":"image"}`), 400, "bad_input_type", "inputs[0].type"},
		"image not base64":    {inputs(`{"node":"1","field":"image","value":"???","type":"image_base64"}`), 400, "media_not_base64", "inputs[0].value"},
		"image is a number":   {inputs(`{"node":"1","field":"image","value":7,"type":"image_base64"}`), 400, "wrong_type", "inputs[0].value"},
		"empty image":         {inputs(`{"node":"1","field":"image","value":"","type":"image_base64"}`), 400, "input_without_value", "inputs[0].value"},
		"long image broken":   {inputs(`{"node":"1","field":"image","value":"` + strings.Repeat("?", 70000) + `","type":"image_base64"}`), 400, "media_not_base64", "inputs[0].value"},
		"long text":           {inputs(`{"node":"2","field":"filename_prefix","value":"` + strings.Repeat("a b", 30000) + `"}`), 422, "value_too_long", "inputs[0].value"},
		"image URL private":   {inputs(`{"node":"1","field":"image","value":"http://10.0.0.1/a.png","type":"image_url"}`), 400, "address_refused", "inputs[0].value"},
		"media without data":  {media(good + `,{"name":"b.png"}`), 400, "media_without_data", "media[1]"},
		"media empty data":    {media(`{"name":"b.png","data":""}`), 400, "media_without_data", "media[0]"},
		"media without name":  {media(`{"data":"` + picture + `"}`), 400, "media_without_name", "media[0].name"},
		"two of one name":     {media(good + `,` + good), 400, "media_name_twice", "media[1].name"},
		"data and url":        {media(`{"name":"b","data":"` + picture + `","url":"http://192.0.2.1/x"}`), 400, "media_twice", "media[0]"},
		"media broken":        {media(good + `,{"name":"b","data":"a_b-"}`), 400, "media_not_base64", "media[1].data"},
		"media data a number": {media(`{"name":"b","data":7}`), 400, "wrong_type", "media[0].data"},
		"media not a list":    {`{"workflow":` + graph + `,"media":{"name":"x","data":"` + picture + `"}}`, 400, "wrong_type", "media"},
		"eleven files":        {media(many), 400, "too_many_media", "media[10].data"},
		"eleven URLs":         {media(urls), 400, "too_many_media", "media"},
		"private address":     {media(`{"name":"b","url":"http://127.0.0.1/x.png"}`), 400, "address_refused", "media[0].url"},
		"file URL":            {media(`{"name":"b","url":"file:///etc/passwd"}`), 400, "", "media[0].url"},
		"webhook private":     {`{"workflow":` + graph + `,"webhook_url":"http://169.254.169.254/"}`, 400, "address_refused", "webhook_url"},
		"priority":            {`{"workflow":` + graph + `,"priority":101}`, 400, "bad_priority", "priority"},
		"priority a text":     {`{"workflow":` + graph + `,"priority":"high"}`, 400, "wrong_type", "priority"},
		"timeout":             {`{"workflow":` + graph + `,"timeout_seconds":0}`, 400, "bad_timeout", "timeout_seconds"},
		"metadata":            {`{"workflow":` + graph + `,"metadata":[1]}`, 400, "wrong_type", "metadata"},
		"metadata too large":  {`{"workflow":` + graph + `,"metadata":{"a":"` + strings.Repeat("x", 16<<10) + `"}}`, 400, "metadata_too_large", "metadata"},
		"rest too large":      {`{"workflow":` + graph + `,"x":"` + strings.Repeat("x", 4<<20) + `"}`, 413, "body_too_large", ""},
		"too deep":            {strings.Repeat("[", 20000), 400, "malformed_json", ""},
		"reads other files":   {strings.Replace(media(good), `"in.png"`, `"../x.png"`, 1), 422, "unsafe_input", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.post("acme", c.body)
			require.Equal(t, c.status, a.status, string(a.body))
			var p server.Problem
			a.into(t, &p)
			if c.code != "" {
				require.Equal(t, c.code, p.Code, string(a.body))
			}
			if c.field != "" {
				require.NotEmpty(t, p.Errors, string(a.body))
				require.Equal(t, c.field, p.Errors[0].Field)
				require.Contains(t, p.Detail, c.field)
			}
		})
	}
	require.Empty(t, w.stored(), "a refused submission leaves no blob")
	require.Equal(t, []any{}, w.get("acme", "/v1/jobs").object(t)["jobs"])
}

// base64Zeros is a JSON body with one medium of n zero bytes, made while it is read.
func base64Zeros(n int64) io.Reader {
	groups := n / 3
	return io.MultiReader(
		strings.NewReader(`{"workflow":`+graph+`,"media":[{"name":"in.png","data":"`),
		io.LimitReader(repeat('A'), groups*4),
		strings.NewReader([]string{"", "AA==", "AAA="}[n%3]+`"}]}`),
	)
}

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func TestMediaLimitHoldsToTheByteAndItsRefusalCanBeRead(t *testing.T) {
	w := newWorld(t)
	const limit = 50 << 20
	a := w.call("acme", http.MethodPost, "/v1/jobs", base64Zeros(limit))
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	require.Len(t, w.stored(), 1)
	a = w.call("acme", http.MethodPost, "/v1/jobs", base64Zeros(limit+1))
	require.Equal(t, http.StatusBadRequest, a.status)
	var p server.Problem
	a.into(t, &p)
	require.Equal(t, "media_too_large", p.Code)
	require.Equal(t, "media[0].data", p.Errors[0].Field)
	require.Len(t, w.stored(), 1)
}

func TestBodyBeyondTheLimitIsRefusedByItsLength(t *testing.T) {
	w := newWorld(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/jobs", io.LimitReader(repeat(' '), 690<<20+1))
	require.NoError(t, err)
	req.ContentLength = 690<<20 + 1
	req.Header.Set("X-API-Key", w.keys["acme"])
	r, err := w.client.Do(req)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode)
}

func TestFullDiskRefusesBeforeAnythingIsTaken(t *testing.T) {
	w := newWorld(t)
	w.free = 1 << 10
	a := w.post("acme", `{"workflow":`+graph+`}`)
	require.Equal(t, http.StatusInsufficientStorage, a.status)
	w.free = 1<<20 + 100 // less than the minimum and the body
	a = w.post("acme", `{"workflow":`+graph+`}`)
	require.Equal(t, http.StatusInsufficientStorage, a.status)
}

func TestIdempotencyKeyGetsTheFirstAnswer(t *testing.T) {
	w := newWorld(t)
	body := `{"workflow":` + graph + `,"media":[{"name":"in.png","data":"` + picture + `"}]}`
	first := w.post("acme", body, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusOK, first.status)
	again := w.post("acme", " "+body+" ", "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusOK, again.status)
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	require.JSONEq(t, string(first.body), string(again.body))
	require.Len(t, w.stored(), 1, "the repeated media are not kept")

	other := w.post("acme", `{"workflow":`+graph+`,"priority":1}`, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusUnprocessableEntity, other.status)
	foreign := w.post("other", body, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusOK, foreign.status)
	require.NotEqual(t, first.object(t)["job_id"], foreign.object(t)["job_id"])
	long := w.post("acme", body, "Idempotency-Key", strings.Repeat("x", 256))
	require.Equal(t, "bad_idempotency_key", long.object(t)["code"])
}

func TestPreferWaitAnswersWithTheFinishedJob(t *testing.T) {
	w := newWorld(t)
	w.dispatch()
	a := w.post("acme", `{"workflow":`+graph+`,"media":[{"name":"in.png","data":"`+picture+`"}]}`, "Prefer", "respond-async, wait=30")
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	require.Equal(t, "wait=30", a.header.Get("Preference-Applied"))
	m := a.object(t)
	require.Equal(t, "completed", m["status"])
	require.Contains(t, m, "estimated_time")
	require.Len(t, m["outputs"], 3)

	release := make(chan struct{})
	defer close(release)
	w.fleet.run = func(context.Context, gpu.Task, gpu.Observer) gpu.Outcome {
		<-release
		return gpu.Outcome{Cause: models.CauseServerStop}
	}
	a = w.post("acme", `{"workflow":`+graph+`}`, "Prefer", "wait=1")
	require.Equal(t, "queued", a.object(t)["status"])
}

func TestCancelSaysWhatBecameOfTheJob(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	a := w.call("acme", http.MethodDelete, "/v1/jobs/"+id, nil)
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, "failed", a.object(t)["status"])
	m := w.get("acme", "/v1/jobs/"+id).object(t)
	require.Equal(t, "Cancelled by user", m["error"])
	require.Equal(t, "failed", m["status"])
	a = w.call("acme", http.MethodDelete, "/v1/jobs/"+id, nil)
	require.Equal(t, http.StatusOK, a.status)
	require.Contains(t, a.object(t)["message"], "already")
}

func TestListPagesThroughTheTenantsJobs(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for range 5 {
		ids = append(ids, w.submit("acme"))
	}
	w.submit("other")
	slices.Reverse(ids)
	var seen []string
	path, pages := "/v1/jobs?limit=2", 0
	for path != "" {
		var page struct {
			Jobs []struct {
				JobID string `json:"job_id"`
			}
			Next *string `json:"next_cursor"`
		}
		w.get("acme", path).into(t, &page)
		for _, j := range page.Jobs {
			seen = append(seen, j.JobID)
		}
		pages++
		path = ""
		if page.Next != nil {
			path = "/v1/jobs?limit=2&cursor=" + *page.Next
		}
	}
	require.Equal(t, ids, seen)
	require.Equal(t, 3, pages)

	w.call("acme", http.MethodDelete, "/v1/jobs/"+ids[0], nil)
	failed := w.get("acme", "/v1/jobs?status=failed").object(t)["jobs"].([]any)
	require.Len(t, failed, 1)
	require.Len(t, w.get("acme", "/v1/jobs?status=queued").object(t)["jobs"], 4)
	require.Empty(t, w.get("acme", "/v1/jobs?status=running").object(t)["jobs"])
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	require.Empty(t, w.get("acme", "/v1/jobs?created_after="+later).object(t)["jobs"])

	for query, field := range map[string]string{
		"status=done": "status", "limit=0": "limit", "limit=101": "limit", "limit=x": "limit", "cursor=abc": "cursor",
		"cursor=" + base64.RawURLEncoding.EncodeToString(make([]byte, 16)): "cursor", "created_after=yesterday": "created_after",
	} {
		a := w.get("acme", "/v1/jobs?"+query)
		require.Equal(t, http.StatusBadRequest, a.status, query)
		var p server.Problem
		a.into(t, &p)
		require.Equal(t, field, p.Errors[0].Field, query)
	}
}

func TestRateLimitsAreOnePerRouteOfTheGuide(t *testing.T) {
	w := newWorld(t, func(c *server.Config, d *api.Deps) {
		c.ReadIdle = time.Hour // counted from the clock that stands still
		d.Rates = api.Rates{Submit: 2, Status: 4, Manage: 3}
	})
	w.clock.hold()
	id := w.submit("acme")
	calls := func(key, method, path string, allowed int) {
		for range allowed {
			require.NotEqual(t, 429, w.call(key, method, path, nil).status, path)
		}
		a := w.call(key, method, path, nil)
		require.Equal(t, 429, a.status, path)
		require.Equal(t, "60", a.header.Get("Retry-After"))
	}
	calls("acme", http.MethodPost, "/v1/jobs", 1)
	calls("acme", http.MethodGet, "/v1/jobs/"+id, 4)
	calls("acme", http.MethodGet, "/v1/jobs", 3)
	calls("acme", http.MethodDelete, "/v1/jobs/"+id, 3)
	calls("acme", http.MethodGet, "/v1/workflows", 4)
	require.Equal(t, 200, w.get("other", "/v1/jobs").status, "each key has its own")
	w.clock.forward(time.Minute)
	require.Equal(t, 200, w.get("acme", "/v1/jobs/"+id).status)
}

func TestBodyThatIsJSONForOnlyOneOfTwoReadersIsRefused(t *testing.T) {
	w := newWorld(t)
	// A second media list replaces the first; its items take nothing over from it.
	a := w.post("acme", `{"workflow":`+graph+`,"media":[{"name":"in.png","data":"`+picture+`"}],"media":[{"name":"in.png"}]}`)
	require.Equal(t, "media_without_data", a.object(t)["code"])
	a = w.post("acme", `{"workflow":`+graph+`,"media":[{"name":"in.png","data":"`+picture+`","Data":"AAAA"}]}`)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	ids := w.stored()
	require.Len(t, ids, 1)
	r, n, err := w.blobs.Open(t.Context(), ids[0])
	require.NoError(t, err)
	defer r.Close()
	require.EqualValues(t, 3, n, "the last of repeated members counts, as in encoding/json")
}

func TestOutputsOfAHugeFileAreNotHeldInMemory(t *testing.T) {
	w := newWorld(t)
	id := w.submit("acme")
	w.dispatch()
	w.until(id, "completed")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/jobs/"+id, nil)
	require.NoError(t, err)
	req.SetBasicAuth(w.keys["acme"], "x")
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Positive(t, r.ContentLength, "the length is known before")
	var m map[string]any
	n := &counter{r: r.Body}
	require.NoError(t, json.NewDecoder(n).Decode(&m))
	_, err = io.Copy(io.Discard, n)
	require.NoError(t, err)
	require.Equal(t, r.ContentLength, n.n)
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
