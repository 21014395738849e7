package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unknownID is the id of no job.
const unknownID = "00000000-0000-4000-8000-000000000000"

// stepsGraph draws a black picture and looks at it for some steps; seed keeps the engine from answering out of its cache.
func stepsGraph(steps any, delay float64, seed int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{
		"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
		"2": {"class_type": "SimSteps", "inputs": {"image": ["1", 0], "steps": %v, "delay": %v, "preview": false, "seed": %d}},
		"3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "steps"}}}`, steps, delay, seed))
}

// resize is a submission of the bundled picture workflow with some media.
func resize(media ...map[string]string) map[string]any {
	entry, err := bundled("image-resize-invert")
	if err != nil {
		panic(err) // it is embedded in the test's own binary
	}
	return map[string]any{"workflow": json.RawMessage(entry.Graph), "media": media}
}

// override is a submission with one input.
func override(node, field string, value any) map[string]any {
	return map[string]any{"workflow": stepsGraph(2, 0, 1), "inputs": []map[string]any{{"node": node, "field": field, "value": value, "type": "raw"}}}
}

// refusal is a request that must leave nothing behind.
type refusal struct {
	name   string
	body   any
	status int
	code   string
	says   string // part of the detail, or of the field that errors name
}

func submitRefusals(address string) []refusal {
	media := func(name, data, url string) map[string]string {
		m := map[string]string{"name": name}
		if data != "" {
			m["data"] = data
		}
		if url != "" {
			m["url"] = url
		}
		return m
	}
	var eleven []map[string]string
	for i := range 11 {
		eleven = append(eleven, media(fmt.Sprintf("%d.png", i), "AAAA", ""))
	}
	editor := json.RawMessage(`{"last_node_id":1,"last_link_id":0,"nodes":[{"id":1,"type":"LoadImage"}],"links":[],"version":0.4}`)
	huge := base64.StdEncoding.EncodeToString(make([]byte, 50<<20+1))
	return []refusal{
		{"no JSON", `{"workflow": {`, 400, "malformed_json", "not JSON"},
		{"no object", `[1, 2]`, 400, "", ""},
		{"no workflow", map[string]any{"inputs": []int{}}, 400, "no_workflow", "workflow"},
		{"a graph of the editor", map[string]any{"workflow": editor}, 422, "editor_format", "Export (API)"},
		{"a node without a class", map[string]any{"workflow": json.RawMessage(`{"1":{"inputs":{}}}`)}, 422, "graph_malformed", "class_type"},
		{"an unknown workflow", map[string]any{"workflow_id": "no-such"}, 422, "unknown_workflow", "no-such"},
		{"an unknown node in inputs", override("99", "steps", 3), 422, "unknown_node", "inputs[0].node"},
		{"an override of a field that is not there", override("2", "stepz", 3), 422, "unknown_field", "inputs[0].field"},
		{"a medium with neither data nor url", resize(media("a.png", "", "")), 400, "media_without_data", "media[0]"},
		{"two media of one name", resize(media("a.png", "AAAA", ""), media("a.png", "AAAA", "")), 400, "media_name_twice", "media[1].name"},
		{"eleven media", resize(eleven...), 400, "too_many_media", "media[10]"},
		{"a medium of more than 50 MiB", resize(media("a.png", "AAAA", ""), media("big.png", huge, "")), 400, "media_too_large", "media[1]"},
		{"broken base64", resize(media("a.png", "AAAA", ""), media("b.png", "AA*A", "")), 400, "media_not_base64", "media[1].data"},
		{"a text by URL", resize(media("a.png", "", address+"/page")), 400, "content_type_refused", "media[0]"},
		{"a missing file by URL", resize(media("a.png", "", address+"/gone")), 400, "fetch_failed", "media[0]"},
		{"a private address", resize(media("a.png", "", "http://10.0.0.1/a.png")), 400, "address_refused", "media[0]"},
		{"the cloud's metadata address", resize(media("a.png", "", "http://169.254.169.254/latest/meta-data")), 400, "address_refused", "media[0]"},
		{"a webhook to a private address", map[string]any{"workflow_id": "text-to-text", "webhook_url": "http://192.168.1.1/"}, 400, "address_refused", "webhook_url"},
		{"a file of another job", resizeFrom("../other/secret.png"), 422, "unsafe_input", ""},
		{"a priority out of range", map[string]any{"workflow_id": "text-to-text", "priority": 101}, 400, "bad_priority", "priority"},
		{"a text as a priority", map[string]any{"workflow_id": "text-to-text", "priority": "high"}, 400, "", "priority"},
	}
}

func resizeFrom(image string) map[string]any {
	r := resize()
	r["inputs"] = []map[string]any{{"node": "1", "field": "image", "value": image, "type": "raw"}}
	return r
}

// TestRefusedSubmissionsSayWhyAndLeaveNothing runs before any worker: no definitions of nodes are known yet.
func TestRefusedSubmissionsSayWhyAndLeaveNothing(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<p>a page</p>"))
	}))
	defer page.Close()
	s := startServer(t, "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	for _, c := range submitRefusals(page.URL) {
		t.Run(c.name, func(t *testing.T) {
			a := s.call("POST", "/v1/jobs", testKey, c.body)
			require.Equal(t, c.status, a.status, "%s", a.body)
			p := a.problem(t)
			if c.code != "" {
				require.Equal(t, c.code, p.Code, "%s", a.body)
			}
			said := p.Detail
			for _, e := range p.Errors {
				said += "\n" + e.Field
			}
			require.Contains(t, said, c.says)
		})
	}
	t.Run("without a key", func(t *testing.T) {
		a := s.call("POST", "/v1/jobs", "", map[string]any{"workflow_id": "text-to-text"})
		require.Equal(t, 401, a.status)
		require.Equal(t, "missing_key", a.problem(t).Code)
		require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
	})
	t.Run("with a wrong key", func(t *testing.T) {
		a := s.call("POST", "/v1/jobs", testKey+"x", map[string]any{"workflow_id": "text-to-text"})
		require.Equal(t, 401, a.status)
		require.NotContains(t, string(a.body), testKey)
	})
	require.Empty(t, s.list(testKey, ""), "refused submissions that became jobs")
	require.Empty(t, s.blobs(), "media of refused submissions")

	s.submit(resize(map[string]string{"name": "input.png", "data": onePixel}))
	require.Len(t, s.list(testKey, ""), 1, "what is accepted is seen")
	require.NotEmpty(t, s.blobs())
}

// onePixel is a picture in base64.
const onePixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// list are a key's jobs.
func (s *testServer) list(key, query string) []jobStatus {
	s.t.Helper()
	a := s.call("GET", "/v1/jobs"+query, key, nil)
	require.Equal(s.t, 200, a.status, "%s", a.body)
	var list struct {
		Jobs []jobStatus `json:"jobs"`
	}
	a.json(s.t, &list)
	return list.Jobs
}

// blobs are the files in the blob store, half-written ones too.
func (s *testServer) blobs() (files []string) {
	s.t.Helper()
	require.NoError(s.t, filepath.WalkDir(filepath.Join(s.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// TestTheEnginesRefusalNamesTheNode has it both ways: before any worker has run the engine itself refuses and the job
// fails; from then on the same graph is refused at the door, in the engine's words.
func TestTheEnginesRefusalNamesTheNode(t *testing.T) {
	s := startServer(t)
	bad := map[string]any{"workflow": stepsGraph(-5, 0, 1)}
	id := s.submit(bad)
	job := s.wait(id, patience)
	require.Equal(t, "failed", job.Status)
	require.Equal(t, "graph_rejected", job.ErrorCode)
	require.Contains(t, string(job.NodeErrors), "value_smaller_than_min")
	require.Contains(t, job.Error, "steps")
	require.Zero(t, job.Attempts, "nothing ran")

	s.untilNodesAreKnown()
	accepted := len(s.list(testKey, ""))
	a := s.call("POST", "/v1/jobs", testKey, bad)
	require.Equal(t, 422, a.status, "%s", a.body)
	p := a.problem(t)
	require.Equal(t, "prompt_outputs_failed_validation", p.Code)
	require.Equal(t, "SimSteps", p.NodeErrors["2"].ClassType)
	require.Equal(t, "value_smaller_than_min", p.NodeErrors["2"].Errors[0].Type)
	require.Contains(t, p.NodeErrors["2"].Errors[0].Message+p.NodeErrors["2"].Errors[0].Details, "steps")
	require.Len(t, s.list(testKey, ""), accepted)
}

// TestEveryEndpointAnswersOwnerStrangerAndNobody walks all routes of the API once for each kind of caller.
func TestEveryEndpointAnswersOwnerStrangerAndNobody(t *testing.T) {
	s := startServer(t)
	stranger := s.newTenant("stranger").Key
	id := s.submit(map[string]any{"workflow_id": "text-to-text"})
	job := s.wait(id, patience)
	require.Equal(t, "completed", job.Status, job.Error)
	output := job.Outputs[0].OutputID

	for _, c := range []struct {
		method, path           string
		owner, foreign, nobody int
	}{
		{"GET", "/v1/jobs", 200, 200, 401},
		{"GET", "/v1/jobs?limit=100&status=completed", 200, 200, 401},
		{"GET", "/v1/jobs?status=done", 400, 400, 401},
		{"GET", "/v1/jobs?cursor=bm90LWEtY3Vyc29y", 400, 400, 401},
		{"GET", "/v1/jobs?limit=101", 400, 400, 401},
		{"GET", "/v1/jobs?limit=0", 400, 400, 401},
		{"GET", "/v1/jobs?created_after=yesterday", 400, 400, 401},
		{"GET", "/v1/jobs/" + id, 200, 404, 401},
		{"GET", "/v1/jobs/" + unknownID, 404, 404, 401},
		{"GET", "/v1/jobs/not-an-id", 404, 404, 401},
		{"GET", "/v1/jobs/" + id + "/events", 200, 404, 401},
		{"GET", "/v1/jobs/" + unknownID + "/events", 404, 404, 401},
		{"GET", "/v1/jobs/" + unknownID + "/ws", 404, 404, 401},
		{"DELETE", "/v1/jobs/" + id, 200, 404, 401},
		{"DELETE", "/v1/jobs/" + unknownID, 404, 404, 401},
		{"GET", "/v1/outputs/" + output, 200, 404, 401},
		{"GET", "/v1/outputs/" + unknownID, 404, 404, 401},
		{"GET", "/v1/outputs/" + output + "?signature=00&expires=1&key=1", 403, 403, 403},
		{"GET", "/v1/workflows", 200, 200, 401},
		{"GET", "/v1/workflows/text-to-text", 200, 200, 401},
		{"GET", "/v1/workflows/no-such", 404, 404, 401},
		{"GET", "/v1/usage", 200, 200, 401},
		{"GET", "/v1/nothing", 404, 404, 404},
		{"PUT", "/v1/jobs", 405, 405, 405},
		{"GET", "/health", 200, 200, 200},
		{"GET", "/livez", 200, 200, 200},
		{"GET", "/readyz", 200, 200, 200},
		{"GET", "/openapi.json", 200, 200, 200},
		{"GET", "/docs", 200, 200, 200},
	} {
		for _, caller := range []struct {
			who, key string
			want     int
		}{{"owner", testKey, c.owner}, {"stranger", stranger, c.foreign}, {"nobody", "", c.nobody}, {"wrong key", "cfk_wrong", c.nobody}} {
			t.Run(caller.who+" "+c.method+" "+strings.ReplaceAll(c.path, "/", " "), func(t *testing.T) {
				a := s.call(c.method, c.path, caller.key, nil)
				require.Equal(t, caller.want, a.status, "%s", a.body)
				if caller.want >= 400 {
					require.NotEmpty(t, a.problem(t).Code)
				}
			})
		}
	}
	require.Equal(t, "completed", s.wait(id, patience).Status, "cancelling what had ended changes nothing")
	require.Len(t, s.list(testKey, ""), 1)
}
