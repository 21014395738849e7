package web

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/views"
	"comfyfleet/workflows"
)

func TestTimesReadAsTheGuideSays(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0:00", 48 * time.Second: "0:48", 124 * time.Second: "2:04", 59*time.Minute + 59*time.Second: "59:59",
		72 * time.Minute: "1 h 12 min", 76 * time.Hour: "3 d 4 h",
	} {
		assert.Equal(t, want, clock(d), d)
	}
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Millisecond: "0.01 s", 20 * time.Millisecond: "0.02 s", 6100 * time.Millisecond: "6.1 s", 124 * time.Second: "2:04",
	} {
		assert.Equal(t, want, tookText(d), d)
	}
}

func TestNumbersCarryUnitsAndThousandsStandApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1255: "1\u00a0255", 1234567: "1\u00a0234\u00a0567", -1255: "-1\u00a0255"} {
		assert.Equal(t, want, count(n))
	}
	assert.Equal(t, "1\u00a0000+", capped(1001, 1000))
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1_700_000: "1.7 MB", 41_000_000: "41 MB", 999_999_999: "1.0 GB", 45_600_000_000: "45.6 GB"} {
		assert.Equal(t, want, size(n), n)
	}
	assert.Equal(t, "1 job", plural(1, "job"))
	assert.Equal(t, "14 jobs", plural(14, "job"))
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 21: "21st", 113: "113th"} {
		assert.Equal(t, want, ordinal(n))
	}
}

func TestWorkersAreCalledWhatPeopleCallThem(t *testing.T) {
	for name, want := range map[string]string{"gpu0": "GPU 0", "sim12": "Sim 12", "attached1": "Attached 1", "big": "big", "": ""} {
		assert.Equal(t, want, workerLabel(name))
	}
	assert.Equal(t, "3b:00", shortPCI("00000000:3B:00.0"))
}

func TestAQueryIsReadWholeOrRefused(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tenants := []models.Tenant{{ID: "t1", Name: "acme"}}
	workers := []models.Worker{{Name: "gpu2"}, {Name: "odd", Card: &models.Card{Index: 5}}}
	yesterday, hour := now.Add(-24*time.Hour), now.Add(-time.Hour)
	for text, want := range map[string]models.JobFilter{
		"":                            {},
		"state:failed":                {States: []models.JobState{models.JobFailed}},
		"state:queued,running":        {States: []models.JobState{models.JobQueued, models.JobRunning}},
		"state:failed state:queued":   {States: []models.JobState{models.JobQueued}},
		"tenant:acme workflow:flux-1": {TenantID: "t1", WorkflowSlug: "flux-1"},
		"error:oom":                   {ErrorCode: "out_of_memory"},
		"error:graph_rejected":        {ErrorCode: "graph_rejected"},
		"gpu:2":                       {Worker: "gpu2"},
		"gpu:5":                       {Worker: "odd"},
		"gpu:sim1":                    {Worker: "sim1"},
		"age:<24h":                    {CreatedAfter: &yesterday},
		"age:>1h":                     {CreatedBefore: &hour},
		"B41E07D2":                    {IDPrefix: "b41e07d2"},
	} {
		got, err := parseQuery(text).filter(tenants, workers, now)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"state:done", "tenant:nobody", "colour:red", "age:24h", "age:<9x", "hello"} {
		_, err := parseQuery(text).filter(tenants, workers, now)
		assert.Equal(t, models.CodeInvalid, models.ErrorCode(err), text)
	}
}

func TestATimelineAddsUpToTheWholeTime(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	const id = "b41e07d2-0000-4000-8000-000000000001"
	v, err := h.Job(t.Context(), "", id)
	require.NoError(t, err)
	in := jobInput{job: v, attempts: h.attempts[id], outputs: h.outputs[id], now: h.now}
	title, trace, lines := timeline(in)
	assert.Equal(t, "45.0 s, from request to result", title)
	var got []string
	for _, l := range lines[1:] {
		got = append(got, l.Label+" "+l.Value)
	}
	assert.Equal(t, []string{"Waited 6.0 s", "Attempt lost 18.0 s", "Loaded 11.4 s", "Executed 8.9 s", "Stored 0.3 s"}, got)
	assert.Equal(t, "a CUDA error that only a new process mends on GPU 3", lines[2].Detail)
	at := 0.0
	for _, s := range trace.Segments {
		var x, width float64
		_, err := fmt.Sscanf(s.X+" "+s.Width, "%f%% %f%%", &x, &width)
		require.NoError(t, err)
		assert.InDelta(t, at, x, 0.05, "no gap before %s", s.Class)
		at = x + width
	}
	assert.LessOrEqual(t, at, 100.01)
}

func TestATimelineOfAJobThatNeverRanIsAllWaiting(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	end := now.Add(-time.Minute)
	in := jobInput{now: now, job: jobs.View{Job: models.Job{State: models.JobExpired, CreatedAt: now.Add(-90 * time.Second), FinishedAt: &end}}}
	title, trace, lines := timeline(in)
	assert.Equal(t, "30.0 s, from request to end", title)
	require.Len(t, lines, 2)
	assert.Equal(t, "Waited", lines[1].Label)
	assert.Equal(t, []views.Segment{{Class: "waited", X: "0.00%", Width: "100.00%"}}, trace.Segments)
}

func TestAnHourIsDrawnFromSpansThatMayReachBeyondIt(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	spans := []models.Span{
		{From: now.Add(-2 * time.Hour), To: now.Add(-30 * time.Minute), Kind: models.SpanSampling},
		{From: now.Add(-30 * time.Minute), To: now.Add(-15 * time.Minute), Kind: models.SpanIdle},
		{From: now.Add(-15 * time.Minute), Kind: models.SpanDown},
	}
	trace := hourTrace(spans, now, "GPU 0")
	assert.Equal(t, "GPU 0: sampling 50 %, loading 0 %, down 25 %", trace.Label)
	assert.Equal(t, []views.Segment{{Class: "sampling", X: "0.00%", Width: "50.00%"}, {Class: "idle", X: "50.00%", Width: "25.00%"}, {Class: "down", X: "75.00%", Width: "25.00%"}}, trace.Segments)
}

func TestSharesAreOfTheTimeThatSomebodyWatched(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	young := []models.Span{{From: now.Add(-4 * time.Minute), To: now.Add(-time.Minute), Kind: models.SpanSampling}, {From: now.Add(-time.Minute), Kind: models.SpanOff}}
	shares, known := spanShares(young, now)
	assert.Equal(t, 4*time.Minute, known)
	assert.Equal(t, 75, shares[models.SpanSampling], "three of four minutes, not of sixty")
	trace := hourTrace(young, now, "GPU 0")
	assert.Equal(t, []views.Segment{{Class: "sampling", X: "93.33%", Width: "5.00%"}}, trace.Segments, "what is off or unknown stays blank")
	assert.Contains(t, trace.Label, "as far as it is known")

	s := presentStrip(models.Worker{Name: "gpu0", State: models.WorkerStopped}, models.Job{}, names{}, young, now)
	assert.Equal(t, "75 %", s.Sampling)
	assert.Contains(t, s.Known, "4:00")
	s = presentStrip(models.Worker{Name: "gpu0", State: models.WorkerStopped}, models.Job{}, names{}, nil, now)
	assert.Equal(t, "–", s.Sampling, "nothing known is not zero")

	assert.Equal(t, 37, busyShare(map[string][]models.Span{"gpu0": young, "gpu1": {{From: now.Add(-4 * time.Minute), Kind: models.SpanIdle}}}, now))
	assert.Equal(t, -1, busyShare(nil, now))
}

func TestTextsOfTheFleetCallWorkersByTheNameOnThePages(t *testing.T) {
	n := names{workers: map[string]bool{"sim1": true, "gpu0": true}}
	assert.Equal(t, "no card was free; it was next on Sim 1", n.say("no card was free; it was next on sim1"))
	assert.Equal(t, "GPU 0: sim12 and my-sim1 stay", n.say("gpu0: sim12 and my-sim1 stay"))
	assert.Empty(t, n.say(""))
}

func TestWhatTookNoTimeIsFolded(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	end := start.Add(2 * time.Second)
	times := []models.NodeTime{{Node: "4", Class: "CheckpointLoaderSimple", Cached: true}, {Node: "5", Class: "EmptyLatentImage", Cached: true}, {Node: "3", Class: "KSampler", MS: 1900, Steps: 20}, {Node: "8", Class: "Note", MS: 3}}
	in := jobInput{now: end, job: jobs.View{Job: models.Job{State: models.JobSucceeded, CreatedAt: start, FinishedAt: &end, Attempts: 1}}}
	in.attempts = []models.Attempt{
		{Number: 1, Worker: "sim0", State: models.AttemptReleased, Cause: models.CauseTakenBack},
		{Number: 2, Worker: "sim1", State: models.AttemptSucceeded, StartedAt: &start, EndedAt: &end, ExecMS: 2000, NodeTimes: string(mustJSON(times))},
	}
	_, _, phases := timeline(in)
	ran := phases[len(phases)-1]
	require.NotNil(t, ran.Cached)
	assert.Equal(t, "2 cached", ran.Cached.Label)
	assert.Equal(t, "4 CheckpointLoaderSimple, 5 EmptyLatentImage", ran.Cached.Text)
	require.Len(t, ran.Nodes, 2)

	nodes, quick := runNodes(in)
	require.Len(t, nodes, 1)
	assert.Equal(t, "KSampler", nodes[0].Title)
	assert.Equal(t, "3 nodes cached or done at once", quick.Label)

	attempts, back := attemptLines(in)
	require.Len(t, attempts, 1, "what never ran is folded")
	assert.Equal(t, "Attempt 2", attempts[0].Title)
	assert.Contains(t, back.Text, "1 on Sim 0")
}

func TestACardNamesTheModelsThatFillIt(t *testing.T) {
	var files []models.ResidentModel
	for i := range 7 {
		files = append(files, models.ResidentModel{File: string(rune('a' + i)), Size: int64(i)})
	}
	big, more := biggest(files, heldShown)
	require.Len(t, big, heldShown)
	assert.Equal(t, "g", big[0].File)
	assert.Equal(t, 3, more)
	big, more = biggest(files[:5], heldShown)
	assert.Len(t, big, 5, "one more is shown, not counted")
	assert.Zero(t, more)
}

func TestACardOfWhichNothingIsKnownShowsDashesNotZeros(t *testing.T) {
	c := presentCard(cardInput{worker: models.Worker{Name: "sim0", Kind: models.WorkerSimulated, State: models.WorkerReady}, now: time.Unix(0, 0)})
	for _, m := range c.Meters {
		assert.Empty(t, m.Quantity.Value, m.Label)
	}
	assert.Nil(t, c.Memory)
	assert.Equal(t, "simulated", c.Facts)
}

func TestAGraphIsDrawnFromLeftToRight(t *testing.T) {
	for _, raw := range []string{
		`{"1":{"class_type":"A","inputs":{}},"2":{"class_type":"B","inputs":{"x":["1",0]}},"3":{"class_type":"C","inputs":{"x":["2",0],"y":["1",0]}},"4":{"class_type":"D","inputs":{}}}`,
		`{"1":{"class_type":"A","inputs":{"x":["2",0]}},"2":{"class_type":"B","inputs":{"x":["1",0]}}}`, // a cycle
		`{"1":{"class_type":"A","inputs":{"x":["9",0]}}}`, // a link to nothing
	} {
		g, err := workflows.Parse([]byte(raw))
		require.NoError(t, err)
		drawn := drawGraph(g, map[string]string{"1": "ok"})
		require.Len(t, drawn.Nodes, len(g.Nodes()))
		seen := map[string]bool{}
		for _, n := range drawn.Nodes {
			assert.False(t, seen[n.X+","+n.Y], "two nodes in one place")
			seen[n.X+","+n.Y] = true
		}
	}
	g, err := workflows.Parse([]byte(`{"b":{"class_type":"B","inputs":{"x":["a",0]}},"a":{"class_type":"A","inputs":{}}}`))
	require.NoError(t, err)
	drawn := drawGraph(g, nil)
	assert.Equal(t, "248", drawn.Nodes[0].X, "b stands right of a")
	assert.Equal(t, "20", drawn.Nodes[1].X)
	require.Len(t, drawn.Edges, 1)
}

func TestCodeSamplesCarryAnyTextUnharmed(t *testing.T) {
	evil := "it's \"quoted\" $HOME `id` \\ \n line"
	params := mustJSON(map[string]string{"prompt": evil})
	k := call{base: "https://fleet.example", workflowID: "flux@3", params: string(params), media: []string{`my "cat".png`}}
	out, err := exec.Command("sh", "-c", strings.Replace(strings.Replace(k.curl(), "curl ", "printf '%s\\n' ", 1), `"Authorization: Bearer $KEY"`, "auth", 1)).Output()
	require.NoError(t, err)
	lines := strings.SplitN(string(out), "params=", 2)
	require.Len(t, lines, 2)
	sent, _, _ := strings.Cut(lines[1], "\n")
	var got map[string]string
	require.NoError(t, json.Unmarshal([]byte(sent), &got))
	assert.Equal(t, evil, got["prompt"])
	assert.Contains(t, string(out), `media=@"my \"cat\".png";filename="my \"cat\".png"`)
	for _, s := range k.samples() {
		assert.Contains(t, s.Code, "https://fleet.example", s.Label)
		assert.Contains(t, s.Code, "flux@3", s.Label)
	}
	if python, err := exec.LookPath("python3"); err == nil {
		check := exec.Command(python, "-c", "import ast,sys; ast.parse(sys.stdin.read())")
		check.Stdin = strings.NewReader(k.python())
		assert.NoError(t, check.Run(), k.python())
	}
}

func TestASliderIsOfferedOnlyWhereEachPositionCanBeHit(t *testing.T) {
	steps := workflows.Param{Type: workflows.TypeInteger, Min: "1", Max: "50", Step: "1"}
	assert.True(t, slides(steps, "20"))
	assert.False(t, slides(steps, "80"), "a value beyond its ends would be changed by drawing it")
	assert.False(t, slides(workflows.Param{Type: workflows.TypeInteger, Min: "0", Max: "18446744073709551615", Step: "1"}, "5"))
	assert.False(t, slides(workflows.Param{Type: workflows.TypeNumber, Min: "0", Max: "1"}, "0.5"))
}

func TestLogLinesGetTheLevelThatTheirWordsSuggest(t *testing.T) {
	lines := logLines([]string{"got prompt", "", "WARNING: slow", "!!! Exception during processing !!!", "Traceback (most recent call last):", "[INFO] loaded, no error", "[ERROR] x"}, "")
	levels := []string{}
	for _, l := range lines {
		levels = append(levels, l.Level)
	}
	assert.Equal(t, []string{"info", "warn", "error", "error", "info", "error"}, levels)
	assert.Equal(t, "loaded, no error", lines[4].Text)
}

func TestAnEndOfAProcessKeepsItsNameWhenOlderOnesAreForgotten(t *testing.T) {
	at := time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)
	exits := []models.WorkerExit{{At: at, PID: 1}, {At: at.Add(time.Minute), PID: 2}}
	before, after := exitLines(models.Worker{Exits: exits}, at), exitLines(models.Worker{Exits: exits[1:]}, at)
	assert.Equal(t, before[0].LogID, after[0].LogID, "a log that is open would become another one")
	assert.NotEqual(t, before[0].LogID, before[1].LogID)
}
