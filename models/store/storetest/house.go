package storetest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var houseTests = map[string]func(*testing.T, *bench){
	"a worker's record keeps its node definitions": func(t *testing.T, b *bench) {
		defs := bytes.Repeat([]byte(`{"KSampler":{}}`), 1000)
		seen := b.now()
		require.NoError(t, b.SaveWorkerRecord(t.Context(), models.WorkerRecord{Name: "gpu0", NodeDefs: defs, NodeDefsAt: &seen, UpdatedAt: seen}))
		at := b.now()
		require.NoError(t, b.SaveWorkerRecord(t.Context(), models.WorkerRecord{Name: "gpu0", Disabled: true, Draining: true,
			Quarantine: "crash loop", UpdatedAt: at}))
		require.NoError(t, b.SaveWorkerRecord(t.Context(), models.WorkerRecord{Name: "attached0", UpdatedAt: at}))
		b.again(t)
		list, err := b.WorkerRecords(t.Context())
		require.NoError(t, err)
		require.Equal(t, []models.WorkerRecord{{Name: "attached0", UpdatedAt: at}, {Name: "gpu0", Disabled: true,
			Draining: true, Quarantine: "crash loop", NodeDefs: defs, NodeDefsAt: &seen, UpdatedAt: at}}, list)
	},
	"a setting is there or not": func(t *testing.T, b *bench) {
		_, ok, err := b.Setting(t.Context(), "pauses")
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, b.SetSetting(t.Context(), "pauses", "{}"))
		require.NoError(t, b.SetSetting(t.Context(), "pauses", ""))
		b.again(t)
		value, ok, err := b.Setting(t.Context(), "pauses")
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, value)
	},
}
