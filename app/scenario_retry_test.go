package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// stillGraph is a graph that reads the medium "in.png" and takes a few steps, as many as the test wants it to last.
func stillGraph(steps int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"}},
		"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":%d,"delay":0.05,"preview":false,"seed":1}},
		"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}}}`, steps))
}

// still is a request that runs it.
func still(t *testing.T, steps int, more ...any) []byte {
	t.Helper()
	request := map[string]any{"workflow": stillGraph(steps), "media": []map[string]string{{"name": "in.png", "data": onePixel}}}
	for i := 0; i < len(more); i += 2 {
		request[more[i].(string)] = more[i+1]
	}
	b, err := json.Marshal(request)
	require.NoError(t, err)
	return b
}

// try sends one submission under an Idempotency-Key and answers what came; unlike call it may fail, as a connection does
// whose server is killed.
func (s *testServer) try(ctx context.Context, key, kind string, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/jobs", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, raw}, err
}

// mustTry is try for a server that lives.
func (s *testServer) mustTry(key, kind string, body []byte) answer {
	s.t.Helper()
	a, err := s.try(s.t.Context(), key, kind, body)
	require.NoError(s.t, err)
	return a
}

const replayedHeader = "Idempotency-Replayed"

func TestAHundredTwinsMakeOneJob(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1")
	kinds, bodies := [2]string{"application/json"}, [2][]byte{still(t, 2000)}
	kinds[1], bodies[1] = form(t, map[string]string{"workflow": string(stillGraph(2000))}, "in.png")
	answers := make([]answer, 100)
	var twins sync.WaitGroup
	for i := range answers {
		twins.Go(func() {
			a, err := s.try(t.Context(), "twins", kinds[i%2], bodies[i%2])
			if err == nil {
				answers[i] = a
			}
		})
	}
	twins.Wait()
	first := 0
	for _, a := range answers {
		require.Equal(t, 200, a.status, "%s", a.body)
		require.JSONEq(t, string(answers[0].body), string(a.body))
		if a.header.Get(replayedHeader) == "" {
			first++
		}
	}
	require.Equal(t, 1, first, "one of them is the first")
	require.Len(t, s.list(testKey, ""), 1)
	require.Len(t, s.blobs(), 1, "the media of the other 99 are gone")
}

// TestARetryAfterAKillGivesTheFirstAnswer kills the server among submissions, some answered, some not, and sends all of
// them again to the next one.
func TestARetryAfterAKillGivesTheFirstAnswer(t *testing.T) {
	const rounds, each = 4, 8
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1")
	kept := 0
	for round := range rounds {
		bodies := make([][]byte, each)
		firsts := make([]answer, each)
		key := func(i int) string { return fmt.Sprintf("round-%d-%d", round, i) }
		answered := make(chan struct{}, each)
		var senders sync.WaitGroup
		for i := range bodies {
			bodies[i] = still(t, 2, "metadata", map[string]int{"n": i})
			senders.Go(func() {
				defer func() { answered <- struct{}{} }()
				if a, err := s.try(t.Context(), key(i), "application/json", bodies[i]); err == nil {
					firsts[i] = a
				}
			})
		}
		for range 1 + 2*round { // the kill comes after 1, 3, 5 and 7 of 8
			<-answered
		}
		s.kill()
		senders.Wait()
		s.start()
		for i, first := range firsts {
			kind, body := "application/json", bodies[i]
			if i%2 == 1 { // in the other form
				kind, body = form(t, map[string]string{"workflow": string(stillGraph(2)), "metadata": fmt.Sprintf(`{"n":%d}`, i)}, "in.png")
			}
			again := s.mustTry(key(i), kind, body)
			require.Equal(t, 200, again.status, "%s", again.body)
			if first.status == 0 {
				continue // nobody knows whether it was accepted; either is one job
			}
			kept++
			require.Equal(t, 200, first.status, "%s", first.body)
			require.Equal(t, "true", again.header.Get(replayedHeader))
			require.JSONEq(t, string(first.body), string(again.body))
		}
	}
	require.GreaterOrEqual(t, kept, rounds, "answers that came before a kill")
	require.Len(t, s.list(testKey, "?limit=100"), rounds*each, "one job for each key")
}

func TestARetryIsAnsweredAsTheFirstTimeAfterTheJobHasRun(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1")
	body := still(t, 1)
	first := s.mustTry("k", "application/json", body)
	var made jobStatus
	first.json(t, &made)
	require.Equal(t, "completed", s.wait(made.JobID, patience).Status)
	again := s.mustTry("k", "application/json", body)
	require.Equal(t, "true", again.header.Get(replayedHeader))
	require.JSONEq(t, string(first.body), string(again.body), "the estimate too, though jobs have been measured meanwhile")
}

// form is the multipart form of a request: fields as they are, and the picture as a file.
func form(t *testing.T, fields map[string]string, name string) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for field, value := range fields {
		require.NoError(t, w.WriteField(field, value))
	}
	file, err := w.CreateFormFile(name, "whatever.png")
	require.NoError(t, err)
	picture, err := base64.StdEncoding.DecodeString(onePixel)
	require.NoError(t, err)
	_, err = file.Write(picture)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.Bytes()
}

func TestOneSubmissionIsTheSameInEveryForm(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1")
	inputs := []map[string]any{{"node": "2", "field": "seed", "value": json.Number("9007199254740993"), "type": "raw"}}
	const plainInputs = `[{"value":9007199254740993,"field":"seed","node":2}]` // a number as the node, and the default type
	first := s.mustTry("k", "application/json", still(t, 1, "priority", 3, "inputs", inputs))
	require.Equal(t, 200, first.status, "%s", first.body)

	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, stillGraph(1), "", "    "))
	// The same with its keys the other way round, escapes where none are needed, and base64 in lines behind a type.
	const reversed = `{"3":{"inputs":{"images":["2",0]},"class_type":"PreviewImage"},
		"2":{"inputs":{"seed":1,"preview":false,"delay":0.05,"steps":1,"image":["1",0]},"class_type":"SimSteps"},
		"1":{"inputs":{"image":"\u0069n.png"},"class_type":"\u004coadImage"}}`
	lines := `data:image/png;base64,` + onePixel[:40] + `\n` + onePixel[40:]
	same := map[string]func() (kind string, body []byte){
		"another order": func() (string, []byte) {
			return "application/json; charset=utf-8", []byte(`{"priority":3,"inputs":` + plainInputs + `,"workflow":` + reversed + `,"media":[{"data":"` + lines + `","name":"in.png"}]}`)
		},
		"a form": func() (string, []byte) {
			return form(t, map[string]string{"workflow": indented.String(), "priority": "3", "inputs": plainInputs}, "in.png")
		},
		"a form with the request in one part": func() (string, []byte) {
			return form(t, map[string]string{"request": `{"priority":3,"inputs":` + plainInputs + `,"workflow":` + reversed + `}`}, "in.png")
		},
	}
	for name, make := range same {
		kind, body := make()
		again := s.mustTry("k", kind, body)
		require.Equal(t, 200, again.status, "%s: %s", name, again.body)
		require.Equal(t, "true", again.header.Get(replayedHeader), name)
		require.JSONEq(t, string(first.body), string(again.body), name)
	}

	inputs[0]["value"] = json.Number("9007199254740992") // the same as a float
	for what, other := range map[string][]byte{
		"graph":    still(t, 2, "priority", 3, "inputs", inputs),
		"media":    still(t, 1, "priority", 3, "inputs", inputs, "media", []map[string]string{{"name": "in.png", "data": "AAAA"}}),
		"priority": still(t, 1, "inputs", inputs),
		"seed":     still(t, 1, "priority", 3, "inputs", inputs),
	} {
		a := s.mustTry("k", "application/json", other)
		require.Equal(t, 422, a.status, "another %s: %s", what, a.body)
		require.Equal(t, "idempotency_mismatch", a.problem(t).Code)
	}
	list := s.list(testKey, "")
	require.Len(t, list, 1)
	require.Len(t, s.completed(list[0].JobID).Outputs, 1)
	require.Len(t, s.blobs(), 1, "the media of the others are gone, and the output is too small for a file")
}

// TestARefusedRequestConsumesNothing sends one key with requests that are refused at each stage, and last with a good
// one: it is the first.
func TestARefusedRequestConsumesNothing(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MAX_QUEUED_PER_TENANT=1")
	waits := s.submit(steps(100_000, 2, 1)) // more than an hour, at the speed of this engine
	s.running(waits)
	staged := s.submit(steps(1, 0, 2)) // in the engine already, so it takes no place of those that wait
	s.until(staged, "staged", patience, func(j jobStatus) bool { return j.Phase == "staged" })
	full := s.submit(steps(1, 0, 3))
	for what, body := range map[string][]byte{
		"no JSON":         []byte(`{"workflow":`),
		"no base64":       still(t, 1, "media", []map[string]string{{"name": "in.png", "data": "*"}}),
		"a broken graph":  []byte(`{"workflow":{"1":{"class_type":"A","inputs":{"x":["9",0]}}}}`),
		"a wrong address": still(t, 1, "webhook_url", "ftp://example.com"),
		"a full queue":    still(t, 1),
	} {
		refused := s.mustTry("k", "application/json", body)
		require.Contains(t, []int{400, 422, 429}, refused.status, "%s: %s", what, refused.body)
		if what == "a full queue" {
			require.Equal(t, "queue_full", refused.problem(t).Code)
		}
	}
	for _, id := range []string{full, staged, waits} {
		require.Equal(t, 200, s.call("DELETE", "/v1/jobs/"+id, testKey, nil).status)
	}
	accepted := s.mustTry("k", "application/json", still(t, 1))
	require.Equal(t, 200, accepted.status, "%s", accepted.body)
	require.Empty(t, accepted.header.Get(replayedHeader))
	require.Len(t, s.list(testKey, ""), 4)
	require.Len(t, s.blobs(), 1, "what was refused left nothing")
}
