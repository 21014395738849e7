package gpu

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"comfyfleet/models"
)

var planNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func ready(name string) models.Worker {
	return models.Worker{Name: name, Kind: models.WorkerSimulated, State: models.WorkerReady, IdleSince: new(planNow)}
}

func busy(name string, staged string) models.Worker {
	w := models.Worker{Name: name, State: models.WorkerBusy, Executing: "x-" + name, Staged: staged}
	if staged != "" {
		w.StagedJobID = "job-" + staged
	}
	return w
}

func waiting(n int, group string) (out []Waiting) {
	for i := range n {
		out = append(out, Waiting{JobID: fmt.Sprintf("%s%d", group, i), Group: group, Weight: 1, Seq: int64(i)})
	}
	return out
}

func TestPlanPlacesByShareThenPriorityThenAge(t *testing.T) {
	jobs := append(waiting(3, "a"), waiting(3, "b")...)
	jobs[2].Priority = 5
	d := Plan(Input{Now: planNow, Waiting: jobs, Workers: []models.Worker{ready("gpu0"), ready("gpu1"), ready("gpu2")},
		Groups: map[string]Load{"a": {Served: 7}, "b": {Served: 3}}})
	require.Equal(t, []Placement{
		{JobID: "b0", Worker: "gpu0", Because: "gpu0 was free"},
		{JobID: "a2", Worker: "gpu1", Because: "gpu1 was free"},
		{JobID: "b1", Worker: "gpu2", Because: "gpu2 was free"},
	}, d.Place)
	require.Equal(t, "all 3 cards busy, 0 ahead", d.Why["a0"])
	require.Equal(t, "all 3 cards busy, 1 ahead", d.Why["b2"])
	require.Equal(t, "all 3 cards busy, 2 ahead", d.Why["a1"])
}

func TestPlanGivesAHeavierGroupMoreTurns(t *testing.T) {
	heavy := waiting(20, "heavy")
	for i := range heavy {
		heavy[i].Weight = 3
	}
	var fleet []models.Worker
	for i := range 8 {
		fleet = append(fleet, ready(fmt.Sprintf("gpu%d", i)))
	}
	d := Plan(Input{Now: planNow, Workers: fleet, Waiting: append(heavy, waiting(20, "light")...)})
	n := 0
	for _, p := range d.Place {
		if p.JobID[0] == 'h' {
			n++
		}
	}
	require.Len(t, d.Place, 8)
	require.Equal(t, 6, n)
}

func TestPlanBoundsTheTurnsOfAGroupThatComesBack(t *testing.T) {
	var fleet []models.Worker
	for i := range 8 {
		fleet = append(fleet, ready(fmt.Sprintf("gpu%d", i)))
	}
	d := Plan(Input{Now: planNow, Workers: fleet, Waiting: append(waiting(20, "away"), waiting(20, "here")...),
		Groups: map[string]Load{"here": {Served: 1000 * stride}}})
	require.Contains(t, d.Place, Placement{JobID: "here0", Worker: "gpu5", Because: "gpu5 was free"})
}

func TestPlanStagesOneOnABusyWorkerOnlyWhenNoneIsFree(t *testing.T) {
	d := Plan(Input{Now: planNow, Waiting: waiting(4, "a"), Workers: []models.Worker{busy("gpu0", ""), busy("gpu1", "s"), ready("gpu2")}})
	require.Equal(t, []Placement{
		{JobID: "a0", Worker: "gpu2", Because: "gpu2 was free"},
		{JobID: "a1", Worker: "gpu0", Because: "no card was free; it was next on gpu0"},
	}, d.Place)
	require.Len(t, d.Why, 2)
}

func TestPlanAvoidsWorkersThatLostTheJob(t *testing.T) {
	jobs := waiting(1, "a")
	jobs[0].Avoid = []string{"gpu0"}
	both := []models.Worker{ready("gpu0"), busy("gpu1", "s")}
	d := Plan(Input{Now: planNow, Waiting: jobs, Workers: both})
	require.Empty(t, d.Place)
	require.Equal(t, "waits for a card other than gpu0, where it was lost before", d.Why["a0"])

	d = Plan(Input{Now: planNow, Waiting: jobs, Workers: both[:1]})
	require.Equal(t, "gpu0", d.Place[0].Worker, "nothing else is up")
}

func TestPlanSaysWhyNothingRuns(t *testing.T) {
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"paused":      {Input{Paused: true, Workers: []models.Worker{ready("gpu0")}}, "dispatch is paused"},
		"cap":         {Input{Workers: []models.Worker{ready("gpu0")}, Groups: map[string]Load{"a": {Running: 2, MaxRunning: 2}}}, "tenant runs 2 of 2"},
		"stopped":     {Input{Workers: []models.Worker{{Name: "gpu0", State: models.WorkerStopped}}}, "no card is up: gpu0 starts, 0 ahead"},
		"starting":    {Input{Workers: []models.Worker{{Name: "gpu0", State: models.WorkerStarting}}}, "no card is up: gpu0 starts, 0 ahead"},
		"quarantined": {Input{Workers: []models.Worker{{Name: "gpu0", State: models.WorkerQuarantined}}}, "no card is up: gpu0 quarantined, 0 ahead"},
		"draining":    {Input{Workers: []models.Worker{{Name: "gpu0", State: models.WorkerDraining}}}, "no card takes jobs: gpu0 draining, 0 ahead"},
		"none":        {Input{}, "there is no card, 0 ahead"},
		"one":         {Input{Workers: []models.Worker{busy("gpu0", "s")}}, "the card that is up is busy, 0 ahead"},
	} {
		c.in.Waiting = waiting(1, "a")
		require.Equal(t, c.want, Plan(c.in).Why["a0"], name)
	}
}

func TestPlanStartsWorkersOnDemandAndForMinReady(t *testing.T) {
	stopped := func(n string) models.Worker { return models.Worker{Name: n, State: models.WorkerStopped} }
	fleet := []models.Worker{stopped("gpu0"), stopped("gpu1"), stopped("gpu2")}
	require.Equal(t, []string{"gpu0", "gpu1"}, Plan(Input{Workers: fleet, Waiting: waiting(2, "a")}).Start)
	require.Equal(t, []string{"gpu0"}, Plan(Input{Workers: fleet, MinReady: 1}).Start)
	require.Empty(t, Plan(Input{Workers: fleet}).Start)
	require.Empty(t, Plan(Input{Workers: fleet, Waiting: waiting(2, "a"), Paused: true}).Start)
	// A job that only waits behind another is a reason to start a card as well.
	require.Equal(t, []string{"gpu1"}, Plan(Input{Workers: []models.Worker{busy("gpu0", "s"), stopped("gpu1")}}).Start)
}

func TestPlanStopsTheLongestIdleButKeepsMinReady(t *testing.T) {
	a, b, c := ready("gpu0"), ready("gpu1"), ready("gpu2")
	a.IdleSince, b.IdleSince = new(planNow.Add(-2*time.Minute)), new(planNow.Add(-3*time.Minute))
	in := Input{Now: planNow, Workers: []models.Worker{a, b, c}, ScaleDownAfter: 100 * time.Second}
	require.Equal(t, []string{"gpu1", "gpu0"}, Plan(in).Stop)
	in.MinReady = 2
	require.Equal(t, []string{"gpu1"}, Plan(in).Stop)
	in.ScaleDownAfter = 0
	require.Empty(t, Plan(in).Stop)
}

func TestPlanTakesAStagedPromptBackForAnIdleWorker(t *testing.T) {
	in := Input{Now: planNow, Workers: []models.Worker{busy("gpu0", "s"), ready("gpu1")}, Staged: []Waiting{{JobID: "job-s"}}}
	require.Equal(t, []string{"s"}, Plan(in).TakeBack)
	in.Staged[0].Avoid = []string{"gpu1"}
	require.Empty(t, Plan(in).TakeBack, "it would only come back")
	in.Staged[0].Avoid = nil
	in.Waiting = waiting(1, "a")
	require.Empty(t, Plan(in).TakeBack, "the idle worker has a job to run")
}

// drawInput makes any fleet and any queue, sensible or not.
func drawInput(t *rapid.T) Input {
	states := []models.WorkerState{models.WorkerStopped, models.WorkerStarting, models.WorkerReady, models.WorkerBusy,
		models.WorkerDraining, models.WorkerStopping, models.WorkerBackoff, models.WorkerQuarantined, models.WorkerDisabled}
	in := Input{Now: planNow, Groups: map[string]Load{}, Paused: rapid.IntRange(0, 9).Draw(t, "pause") == 0,
		MinReady: rapid.IntRange(0, 3).Draw(t, "min"), ScaleDownAfter: time.Duration(rapid.IntRange(0, 2).Draw(t, "down")) * time.Minute}
	var names []string
	for i := range rapid.IntRange(0, 6).Draw(t, "workers") {
		w := models.Worker{Name: fmt.Sprintf("gpu%d", i), State: rapid.SampledFrom(states).Draw(t, "state"),
			Since: planNow.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "since")) * time.Minute)}
		switch {
		case w.State == models.WorkerBusy:
			w = busy(w.Name, rapid.SampledFrom([]string{"", "s" + w.Name}).Draw(t, "staged"))
		case w.State == models.WorkerReady:
			w.IdleSince = new(planNow.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "idle")) * time.Minute))
		}
		w.WantDrain = rapid.IntRange(0, 9).Draw(t, "drain") == 0
		names = append(names, w.Name)
		in.Workers = append(in.Workers, w)
		if w.Staged != "" {
			in.Staged = append(in.Staged, Waiting{JobID: w.StagedJobID})
		}
	}
	for g := range rapid.IntRange(1, 4).Draw(t, "groups") {
		in.Groups[fmt.Sprint(g)] = Load{Running: rapid.IntRange(0, 3).Draw(t, "running"), MaxRunning: rapid.IntRange(0, 4).Draw(t, "max"),
			Served: int64(rapid.IntRange(0, 9*stride).Draw(t, "served"))}
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "jobs") {
		j := Waiting{JobID: fmt.Sprint(i), Group: fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "group")), Seq: int64(i),
			Weight: rapid.IntRange(0, 3).Draw(t, "weight"), Priority: rapid.IntRange(-2, 2).Draw(t, "priority")}
		if len(names) > 0 && rapid.Bool().Draw(t, "lost") {
			j.Avoid = rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID).Draw(t, "avoid")
		}
		in.Waiting = append(in.Waiting, j)
	}
	return in
}

// holdsPlanRules fails t where Plan breaks one of its promises.
func holdsPlanRules(t *rapid.T) {
	in := drawInput(t)
	d := Plan(in)
	again := in
	again.Waiting, again.Workers = slices.Clone(in.Waiting), slices.Clone(in.Workers)
	slices.Reverse(again.Waiting)
	slices.Reverse(again.Workers)
	require.Equal(t, d, Plan(again), "the order of the input does not matter")

	worker := map[string]models.Worker{}
	for _, w := range in.Workers {
		worker[w.Name] = w
	}
	job := map[string]Waiting{}
	for _, j := range in.Waiting {
		job[j.JobID] = j
	}
	onWorker, running := map[string]int{}, map[string]int{}
	freeLeft := 0
	for _, p := range d.Place {
		w, j := worker[p.Worker], job[p.JobID]
		require.True(t, accepts(w), "%s is %s", w.Name, w.State)
		onWorker[w.Name]++
		running[j.Group]++
		require.NotContains(t, d.Why, p.JobID)
		delete(job, p.JobID)
	}
	for _, w := range in.Workers {
		room := 1
		if w.Staged != "" {
			room = 0
		}
		require.LessOrEqual(t, onWorker[w.Name], room, "%s", w.Name)
		if accepts(w) && w.State == models.WorkerReady && onWorker[w.Name] == 0 {
			freeLeft++
		}
	}
	for g, n := range running {
		if load := in.Groups[g]; load.MaxRunning > 0 {
			require.LessOrEqual(t, load.Running+n, load.MaxRunning)
		}
	}
	for id, j := range job {
		require.NotEmpty(t, d.Why[id])
		load := in.Groups[j.Group]
		capped := load.MaxRunning > 0 && load.Running+running[j.Group] >= load.MaxRunning
		if !in.Paused && !capped && len(j.Avoid) == 0 {
			require.Zero(t, freeLeft, "job %s waits while a card is free", id)
		}
	}
	require.LessOrEqual(t, len(d.TakeBack), freeLeft)
	for _, s := range d.Stop {
		require.Zero(t, onWorker[s])
		require.Equal(t, models.WorkerReady, worker[s].State)
		require.NotContains(t, d.Start, s)
	}
	for _, s := range d.Start {
		require.Equal(t, models.WorkerStopped, worker[s].State)
	}
}

func TestPlanHoldsItsRules(t *testing.T) { rapid.Check(t, holdsPlanRules) }

func FuzzPlan(f *testing.F) { f.Fuzz(rapid.MakeFuzz(holdsPlanRules)) }

// BenchmarkPlan is the size that DESIGN §6 names: 10 000 waiting jobs of 50 groups on 64 workers.
func BenchmarkPlan(b *testing.B) {
	in := Input{Now: planNow}
	for i := range 64 {
		if i%2 == 0 {
			in.Workers = append(in.Workers, ready(fmt.Sprintf("gpu%d", i)))
		} else {
			in.Workers = append(in.Workers, busy(fmt.Sprintf("gpu%d", i), ""))
		}
	}
	for i := range 10_000 {
		in.Waiting = append(in.Waiting, Waiting{JobID: fmt.Sprint(i), Group: fmt.Sprint(i % 50), Weight: 1, Seq: int64(i), Priority: i % 7})
	}
	for b.Loop() {
		Plan(in)
	}
}
