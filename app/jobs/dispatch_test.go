package jobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// Two attempts that were placed on a worker at once may reach its engine in either order. Taking back the one that
// executes does nothing, and the other would wait behind it beside an idle card.
func TestThePlannerKnowsWhichOfTwoPromptsWaits(t *testing.T) {
	for name, executes := range map[string]string{"in the order of placement": "a1", "the other way round": "a2"} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Now: time.Now})
			s.onWorker["sim0"] = []held{{"a1", models.QueuedJob{ID: "j1", Seq: 1}}, {"a2", models.QueuedJob{ID: "j2", Seq: 2}}}
			waits := map[string]string{"a1": "a2", "a2": "a1"}[executes]
			in := s.planInput([]models.Worker{
				{Name: "sim0", State: models.WorkerBusy, Executing: executes, Staged: waits},
				{Name: "sim1", State: models.WorkerReady},
			}, models.QueueView{})
			require.Equal(t, executes, in.Workers[0].Executing)
			require.Equal(t, []string{waits}, gpu.Plan(in).TakeBack)
		})
	}
}
