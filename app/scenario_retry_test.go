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
	"time"

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
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
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
	body := still(t, 2000)
	answers := make([]answer, 100)
	var twins sync.WaitGroup
	for i := range answers {
		twins.Go(func() {
			a, err := s.try(t.Context(), "twins", "application/json", body)
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
			again := s.mustTry(key(i), "application/json", bodies[i])
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
	first := s.mustTry("k", "application/json", still(t, 1, "priority", 3))
	require.Equal(t, 200, first.status, "%s", first.body)

	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, stillGraph(1), "", "    "))
	kind, body := form(t, map[string]string{"workflow": indented.String(), "priority": "3"}, "in.png")
	same := s.mustTry("k", kind, body)
	require.Equal(t, 200, same.status, "%s", same.body)
	require.Equal(t, "true", same.header.Get(replayedHeader))
	require.JSONEq(t, string(first.body), string(same.body))

	for what, other := range map[string][]byte{
		"graph":    still(t, 2, "priority", 3),
		"media":    still(t, 1, "priority", 3, "media", []map[string]string{{"name": "in.png", "data": "AAAA"}}),
		"priority": still(t, 1),
	} {
		a := s.mustTry("k", "application/json", other)
		require.Equal(t, 422, a.status, "another %s: %s", what, a.body)
		require.Equal(t, "idempotency_mismatch", a.problem(t).Code)
	}
	require.Len(t, s.list(testKey, ""), 1)
}

func TestARefusedRequestConsumesNothing(t *testing.T) {
	s := startServer(t, "COMFYFLEET_WORKERS=sim:1")
	refused := s.mustTry("k", "application/json", []byte(`{"workflow":{"1":{"class_type":"A","inputs":{"x":["9",0]}}}}`))
	require.Equal(t, 422, refused.status, "%s", refused.body)
	good := still(t, 1)
	accepted := s.mustTry("k", "application/json", good)
	require.Equal(t, 200, accepted.status, "%s", accepted.body)
	require.Empty(t, accepted.header.Get(replayedHeader))
	require.Len(t, s.list(testKey, ""), 1)
}
