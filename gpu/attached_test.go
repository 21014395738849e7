package gpu

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func attachedRig(r *rig, c *Config) {
	c.Workers = []Spec{{Name: "attached0", Kind: models.WorkerAttached, URL: "http://far:8188"}}
}

func TestAnAttachedWorkerIsUsedAndNeverManaged(t *testing.T) {
	inRig(t, attachedRig, func(r *rig) {
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.Zero(t, r.starter.count())
		r.m.Release("attached0")
		r.settle()
		require.Equal(t, models.WorkerReady, r.worker().State)
		require.ErrorContains(t, r.m.Restart(r.ctx, "attached0"), "somebody else")

		r.engine.with(func(e *fakeEngine) { e.renameUpload = "0 (1).png" })
		f := r.execute(Task{AttemptID: "a", JobID: "job", Graph: json.RawMessage(`{"image":"job/0.png"}`), Media: []Media{{File: "0.png", Open: pixels}}})
		require.Contains(t, r.engine.calls(), "upload job/0.png pixels")
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
		body, size, err := r.m.OpenOutput(r.ctx, "attached0", FileRef{Filename: "a.png", Subfolder: "s", Type: "output"})
		require.NoError(t, err)
		require.EqualValues(t, -1, size)
		require.NoError(t, body.Close())
		require.Empty(t, r.m.OutputStamp("attached0", FileRef{Filename: "a.png", Subfolder: "s", Type: "output"}))
		require.Equal(t, "s", r.engine.viewed.Subfolder)
	})
}

func TestWhatSomebodyElseRunsOnAnAttachedWorkerMakesItBusy(t *testing.T) {
	inRig(t, attachedRig, func(r *rig) {
		r.engine.with(func(e *fakeEngine) { e.running = "theirs" })
		r.pass(6 * time.Second)
		require.Equal(t, models.WorkerBusy, r.worker().State)
		require.Contains(t, r.worker().Reason, "somebody else")
		f := r.execute(Task{AttemptID: "a"})
		r.pass(20 * time.Minute)
		require.Empty(t, f.out)
		require.Empty(t, r.worker().Restarts)
		r.engine.finish(success)
		r.engine.finish(success)
		require.Empty(t, r.outcome(f, 0).Cause)
	})
}

func TestAnAttachedWorkerThatGoesAwayComesBack(t *testing.T) {
	inRig(t, attachedRig, func(r *rig) {
		f := r.execute(Task{AttemptID: "a"})
		r.engine.with(func(e *fakeEngine) { e.down = true })
		require.Equal(t, models.CauseUnreachable, r.outcome(f, time.Minute).Cause)
		require.Equal(t, models.WorkerBackoff, r.worker().State)
		r.pass(10 * time.Minute)
		r.engine.with(func(e *fakeEngine) { e.down = false })
		r.pass(time.Minute)
		require.NotEqual(t, models.WorkerQuarantined, r.worker().State)
		require.True(t, r.worker().State.Up())
	})
}

func TestAnAttachedWorkerKeepsItsClientIDForTheSameAddress(t *testing.T) {
	dir := t.TempDir()
	m, err := NewManager(Config{DataDir: dir, NewEngine: func(string) Engine { return newFakeEngine() }})
	require.NoError(t, err)
	s := Spec{Name: "attached0", Kind: models.WorkerAttached, URL: "http://a"}
	id := m.attachedClientID(s, workerDirs(dir, s.Name))
	require.Equal(t, id, m.attachedClientID(s, workerDirs(dir, s.Name)))
	s.URL = "http://b"
	require.NotEqual(t, id, m.attachedClientID(s, workerDirs(dir, s.Name)))
}
