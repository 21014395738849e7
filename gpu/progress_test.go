package gpu

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"comfyfleet/models"
)

var graphNodes = map[string]string{"1": "CheckpointLoaderSimple", "2": "KSampler", "3": "VAEDecode", "4": "SaveImage"}

func at(s float64) time.Time {
	return planNow.Add(time.Duration(s * float64(time.Second)))
}

func state(node, display, s string, v, m float64) NodeState {
	return NodeState{Node: node, Display: display, State: s, Value: v, Max: m}
}

func TestTrackerFollowsANormalRun(t *testing.T) {
	tr := newTracker(graphNodes, []string{"1"}, models.Progress{})
	steps := []struct {
		e       Event
		percent int
		done    int
		node    string
		phase   models.Phase
	}{
		{Event{Kind: EventStart, At: at(0)}, 0, 0, "", models.PhaseExecuting},
		{Event{Kind: EventCached, At: at(0)}, 0, 0, "", models.PhaseExecuting},
		{Event{Kind: EventNodes, States: []NodeState{state("1", "1", "running", 0, 1)}, At: at(1)}, 0, 0, "", models.PhaseExecuting},
		{Event{Kind: EventNode, PromptID: "p", Node: "1", At: at(1)}, 0, 0, "1", models.PhaseLoading},
		{Event{Kind: EventNodes, States: []NodeState{state("1", "1", "finished", 1, 1)}, At: at(3)}, 25, 1, "1", models.PhaseExecuting},
		{Event{Kind: EventNode, PromptID: "p", Node: "2", At: at(3)}, 25, 1, "2", models.PhaseExecuting},
		{Event{Kind: EventSteps, Node: "2", Value: 10, Max: 20, At: at(4)}, 37, 1, "2", models.PhaseExecuting},
		{Event{Kind: EventNodes, States: []NodeState{state("1", "1", "finished", 1, 1), state("2", "2", "finished", 20, 20)}, At: at(5)}, 50, 2, "2", models.PhaseExecuting},
		{Event{Kind: EventNode, PromptID: "p", Node: "3", At: at(5)}, 50, 2, "3", models.PhaseExecuting},
		{Event{Kind: EventSuccess, At: at(6)}, 99, 4, "", models.PhaseExecuting},
	}
	for i, s := range steps {
		tr.apply(s.e)
		require.Equal(t, s.percent, tr.now.Percent, "step %d", i)
		require.Equal(t, s.done, tr.now.NodesDone, "step %d", i)
		require.Equal(t, s.node, tr.now.CurrentNode, "step %d", i)
		require.Equal(t, s.phase, tr.phase, "step %d", i)
		require.Equal(t, s.e.At, *tr.now.LastEventAt)
	}
	list, load := tr.sum(at(6))
	require.EqualValues(t, 2000, load)
	require.Equal(t, []models.NodeTime{
		{Node: "1", Class: "CheckpointLoaderSimple", StartMS: 1000, MS: 2000, LoadMS: 2000},
		{Node: "2", Class: "KSampler", StartMS: 3000, MS: 2000, Steps: 10},
		{Node: "3", Class: "VAEDecode", StartMS: 5000, MS: 1000},
	}, list)
}

func TestTrackerCountsCachedNodesAtOnce(t *testing.T) {
	tr := newTracker(graphNodes, nil, models.Progress{})
	tr.apply(Event{Kind: EventStart, At: at(0)})
	tr.apply(Event{Kind: EventCached, Nodes: []string{"1", "2", "3", "99"}, At: at(0)})
	require.Equal(t, 75, tr.now.Percent)
	require.Equal(t, 3, tr.now.NodesDone)
}

func TestTrackerCountsExpandedNodesUnderTheirSubmittedNode(t *testing.T) {
	tr := newTracker(graphNodes, nil, models.Progress{})
	tr.apply(Event{Kind: EventNodes, States: []NodeState{state("2.0.0.1", "2", "finished", 1, 1), state("2.0.0.2", "2", "running", 5, 10)}, At: at(1)})
	require.Equal(t, 0, tr.now.NodesDone)
	require.Equal(t, 12, tr.now.Percent)
	tr.apply(Event{Kind: EventNodes, States: []NodeState{state("2.0.0.3", "2", "running", 1, 10)}, At: at(2)})
	require.Equal(t, 12, tr.now.Percent, "a later part restarts its counter")
	tr.apply(Event{Kind: EventNodes, States: []NodeState{state("2", "2", "finished", 1, 1)}, At: at(3)})
	require.Equal(t, 1, tr.now.NodesDone)
}

func TestAGreetingOfTheSocketIsNoNews(t *testing.T) {
	tr := newTracker(graphNodes, nil, models.Progress{})
	tr.apply(Event{Kind: EventNode, PromptID: "p", Node: "2", At: at(1)})
	tr.apply(Event{Kind: EventNode, Node: "2", At: at(60)})
	require.Equal(t, at(1), *tr.now.LastEventAt)
	require.Equal(t, "2", tr.now.CurrentNode)
}

func TestTrackerWorksWithoutProgressState(t *testing.T) {
	tr := newTracker(graphNodes, nil, models.Progress{})
	for i, id := range []string{"1", "2", "3", "4"} {
		tr.apply(Event{Kind: EventNode, PromptID: "p", Node: id, At: at(float64(i))})
		require.Equal(t, i, tr.now.NodesDone)
	}
	tr.apply(Event{Kind: EventExecuted, Node: "4", At: at(5)})
	require.Equal(t, 4, tr.now.NodesDone)
	require.Equal(t, 99, tr.now.Percent)
}

func TestTrackerNeverGoesBelowItsFloorNorBackNorTo100(t *testing.T) {
	kinds := []EventKind{EventStart, EventCached, EventNode, EventSteps, EventNodes, EventExecuted, EventSuccess, EventException}
	rapid.Check(t, func(t *rapid.T) {
		tr := newTracker(graphNodes, []string{"1"}, models.Progress{Percent: rapid.IntRange(0, 100).Draw(t, "floor")})
		last := tr.now.Percent
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			id := fmt.Sprint(rapid.IntRange(0, 6).Draw(t, "node"))
			v := rapid.Float64().Draw(t, "v")
			tr.apply(Event{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Node: id, Value: v, Max: rapid.Float64().Draw(t, "max"), At: at(float64(i)),
				Nodes: []string{id}, States: []NodeState{state(id+".1", id, "running", v, 10), state(id, id, "finished", 1, 1)}})
			if tr.now.Percent < last || tr.now.Percent > 99 || tr.now.NodesDone > tr.now.NodesTotal {
				t.Fatalf("percent %d after %d, %d of %d nodes", tr.now.Percent, last, tr.now.NodesDone, tr.now.NodesTotal)
			}
			last = tr.now.Percent
		}
		tr.sum(at(99))
	})
}
