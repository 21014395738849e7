package jobs

import (
	"context"
	"log/slog"
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
			s.onWorker["sim0"] = []held{{attemptID: "a1", job: models.QueuedJob{ID: "j1", Seq: 1}}, {attemptID: "a2", job: models.QueuedJob{ID: "j2", Seq: 2}}}
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

// lostClaims is a store in which somebody else was always faster.
type lostClaims struct{ Store }

func (lostClaims) Claim(context.Context, models.Attempt) (models.Attempt, models.Job, error) {
	return models.Attempt{}, models.Job{}, models.ErrFenced
}

// Payload is read while the claim is being made.
func (lostClaims) Payload(context.Context, string) (models.JobPayload, error) {
	return models.JobPayload{Graph: []byte(`{"1":{"class_type":"A","inputs":{}}}`)}, nil
}

func TestALostClaimGivesItsPlaceBack(t *testing.T) {
	s := New(Config{Store: lostClaims{}, Now: time.Now, NewID: func() string { return "a1" }, Log: slog.New(slog.DiscardHandler)})
	s.place(t.Context(), gpu.Placement{JobID: "j1", Worker: "sim0"}, models.QueuedJob{ID: "j1"}, 1)
	s.running.Wait()
	require.Empty(t, s.onWorker["sim0"], "the worker would never be used again")
	require.Empty(t, s.claiming, "the job would never be placed again")
}

func TestAPlacedJobIsNotPlacedAgainFromAnOldView(t *testing.T) {
	s := New(Config{Now: time.Now})
	j := models.QueuedJob{ID: "j1", Seq: 1}
	s.onWorker["sim0"] = []held{{attemptID: "a1", job: j}} // claimed since the queue was read
	in := s.planInput([]models.Worker{{Name: "sim0", State: models.WorkerReady}, {Name: "sim1", State: models.WorkerReady}},
		models.QueueView{Jobs: []models.QueuedJob{j}})
	require.Empty(t, gpu.Plan(in).Place)
}
