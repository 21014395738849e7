package sim_test

import (
	"encoding/json"
	"testing"
	"time"

	"comfyfleet/gpu/sim"
	"comfyfleet/workflows"

	"github.com/stretchr/testify/require"
)

// Every bundled workflow must run: its classes are known, its graph is valid, and it leaves an output.
func TestBundledWorkflowsRun(t *testing.T) {
	entries, err := workflows.Bundled()
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		t.Run(e.Slug, func(t *testing.T) {
			r := start(t, func(o *sim.Options) { o.Previews = "none" })
			for name, data := range e.Sample {
				require.Equal(t, 200, r.upload("/upload/image", name, data).status)
			}
			began := time.Now()
			id := r.submit(string(e.Graph), "")
			h := r.history(id)
			t.Logf("%s took %s at speed 100", e.Slug, time.Since(began))
			require.Equal(t, "success", h["status"].(M)["status_str"], compact(h["status"]))
			require.NotEmpty(t, h["outputs"])
			raw, err := json.MarshalIndent(h["outputs"], "", " ")
			require.NoError(t, err)
			t.Log(string(raw))
		})
	}
}
