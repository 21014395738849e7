package comfy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
)

// recorded is one line of a recording of a real ComfyUI.
type recorded struct {
	Dir    string          `json:"dir"`
	For    string          `json:"for"`
	Status int             `json:"status"`
	JSON   json.RawMessage `json:"json"`
}

// TestRecordingsOfARealEngineAreUnderstood reads every message and answer of the recordings in COMFYFLEET_TRACES.
func TestRecordingsOfARealEngineAreUnderstood(t *testing.T) {
	dir := os.Getenv("COMFYFLEET_TRACES")
	if dir == "" {
		t.Skip("COMFYFLEET_TRACES names no directory with recordings")
	}
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
	require.NoError(t, err)
	older, err := filepath.Glob(filepath.Join(dir, "v*", "[0-9]*.json"))
	require.NoError(t, err)
	var messages, histories, queues, rejections int
	for _, f := range append(files, older...) {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		var trace struct {
			Events []recorded `json:"events"`
		}
		require.NoError(t, json.Unmarshal(raw, &trace), f)
		d := &decoder{}
		for _, r := range trace.Events {
			switch {
			case r.Dir == "ws_text":
				messages += understood(t, d, r.JSON, f)
			case r.Dir != "http_response" || len(r.JSON) == 0:
			case r.For == "GET /queue" && r.Status == 200:
				_, err := decodeQueue(r.JSON)
				require.NoError(t, err, f)
				queues++
			case strings.HasPrefix(r.For, "GET /history/") && r.Status == 200:
				histories += knownEnds(t, r.JSON, f)
			case r.For == "POST /prompt" && r.Status == 400:
				var got *gpu.Rejection
				require.ErrorAs(t, refusal(&statusError{code: 400, body: r.JSON}), &got, f)
				require.NotEqual(t, "bad_request", got.Type, "%s %s", f, r.JSON)
				require.NotContains(t, string(got.NodeErrors), "traceback", f)
				rejections++
			}
		}
	}
	for name, n := range map[string]int{"messages": messages, "histories": histories, "queues": queues, "rejections": rejections} {
		require.Positive(t, n, "no %s in %s", name, dir)
	}
	t.Logf("%d messages, %d histories, %d queues, %d rejections", messages, histories, queues, rejections)
}

// understood decodes one message; only kinds that nobody needs may be left out.
func understood(t *testing.T, d *decoder, raw json.RawMessage, file string) int {
	t.Helper()
	var env struct{ Type string }
	require.NoError(t, json.Unmarshal(raw, &env), file)
	_, ok := d.text(raw)
	if !ok {
		require.True(t, slices.Contains([]string{"feature_flags", "logs", "display_component"}, env.Type) ||
			!strings.HasPrefix(env.Type, "execut") && !strings.HasPrefix(env.Type, "progress") && env.Type != "status",
			"%s: %s was not understood", file, raw)
	}
	return 1
}

// knownEnds decodes each entry of a history and checks that its end is told.
func knownEnds(t *testing.T, raw json.RawMessage, file string) int {
	t.Helper()
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &all), file)
	for id := range all {
		h, err := decodeHistory(raw, id)
		require.NoError(t, err, file)
		require.NotNil(t, h, file)
		require.True(t, h.Success || h.Interrupted || h.Exception != nil, "%s: %s ended, and how is not known", file, id)
		require.False(t, h.StartedAt.IsZero(), file)
	}
	return len(all)
}
