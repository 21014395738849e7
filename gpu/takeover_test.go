package gpu

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// left makes r find the engine of an earlier server, with prompts in it.
func left(r *rig, running string, pending ...string) {
	r.starter.running = true
	r.starter.adoptable = &fakeChild{pid: 77, done: make(chan struct{}), note: r.starter.note,
		meta: map[string]string{metaURL: "http://127.0.0.1:9", metaClientID: "old", metaCommand: ""}}
	r.starter.children = append(r.starter.children, r.starter.adoptable)
	r.engine.running, r.engine.pending = running, pending
}

func TestTheNextServerGoesOnWithWhatItFinds(t *testing.T) {
	inRig(t, func(r *rig, _ *Config) { left(r, "a", "b") }, func(r *rig) {
		w := r.worker()
		require.True(t, w.Adopted)
		require.Equal(t, 77, w.PID)
		require.Zero(t, r.starter.count())
		require.Equal(t, map[string]bool{"old": true}, maps.Clone(r.engine.clientIDs), "under the client id of its prompts")
		a := r.execute(Task{AttemptID: "a", Resume: true, Started: true})
		b := r.execute(Task{AttemptID: "b", Resume: true})
		c := r.execute(Task{AttemptID: "c", Resume: true})
		require.Equal(t, models.CauseVanished, r.outcome(c, 2*time.Second).Cause)
		r.engine.finish(success)
		require.Empty(t, r.outcome(a, 0).Cause)
		require.Empty(t, a.seen(), "an earlier server has written down its start")
		r.pass(time.Second)
		require.Equal(t, []string{"started"}, b.seen())
		r.engine.finish(success)
		require.Empty(t, r.outcome(b, 0).Cause)
		for _, call := range r.engine.calls() {
			require.NotContains(t, call, "submit")
		}
		// The engine runs with an older command line: it is replaced once it is idle.
		r.pass(time.Minute)
		require.Equal(t, 1, r.starter.count())
		require.False(t, r.worker().Adopted)
	})
}

// slowRecords load nothing once the server stops.
type slowRecords struct{}

func (slowRecords) Load(ctx context.Context) ([]models.WorkerRecord, error) { return nil, ctx.Err() }
func (slowRecords) Save(context.Context, models.WorkerRecord) error         { return nil }

func TestAStopDuringTheStartEndsTheEnginesOfTheEarlierServer(t *testing.T) {
	inRig(t, func(r *rig, c *Config) {
		left(r, "a")
		c.Records = slowRecords{}
		r.stopped = true
	}, func(r *rig) {
		require.Equal(t, []string{"stop"}, r.starter.notes())
	})
}

func TestAPromptThatEndedWithoutUsIsCollected(t *testing.T) {
	inRig(t, func(r *rig, _ *Config) {
		left(r, "")
		began := time.Now().Add(-time.Minute)
		r.engine.history["a"] = &History{Success: true, Outputs: success.Outputs, StartedAt: began, EndedAt: began.Add(20 * time.Second)}
	}, func(r *rig) {
		out := r.outcome(r.execute(Task{AttemptID: "a", Resume: true, Started: true}), time.Second)
		require.Empty(t, out.Cause)
		require.Equal(t, success.Outputs, out.Outputs)
		require.EqualValues(t, 20_000, out.ExecMS)
	})
}

func TestPromptsThatNobodyClaimsAreCleared(t *testing.T) {
	inRig(t, func(r *rig, _ *Config) { left(r, "x", "y") }, func(r *rig) {
		r.pass(20 * time.Second)
		require.Equal(t, models.WorkerDraining, r.worker().State)
		require.Empty(t, r.engine.calls(), "they may still be claimed")
		r.pass(20 * time.Second)
		require.Subset(t, r.engine.calls(), []string{"interrupt x", "unqueue y", "forget x", "forget y"})
		require.NotContains(t, r.engine.calls(), "run y")
		require.Equal(t, models.WorkerReady, r.worker().State)
	})
}

func TestHowAnEngineEndedWithoutUsDecidesWhetherItCounts(t *testing.T) {
	for name, c := range map[string]struct {
		left *fakeChild
		want models.Cause
	}{
		"its shim saw a crash":      {&fakeChild{done: make(chan struct{}), exit: proc.Exit{Code: 3, Seen: true}}, models.CauseCrashed},
		"nobody saw it":             {&fakeChild{done: make(chan struct{}), exit: proc.Exit{Code: -1}}, models.CauseServerStop},
		"an earlier boot, or never": {nil, models.CauseServerStop},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(r *rig, _ *Config) { r.starter.adoptable = c.left }, func(r *rig) {
				out := r.outcome(r.execute(Task{AttemptID: "a", Resume: true, Started: true}), time.Second)
				require.Equal(t, c.want, out.Cause)
				require.True(t, out.Started)
			})
		})
	}
}

func TestProcessesOfWorkersThatAreNoLongerConfiguredAreEnded(t *testing.T) {
	inRig(t, func(_ *rig, c *Config) {
		require.NoError(t, os.MkdirAll(filepath.Join(c.DataDir, "workers", "sim5"), 0o700))
	}, func(r *rig) {
		require.Contains(t, r.starter.killed, "sim5")
	})
}
