package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"comfyfleet/models"
	"comfyfleet/views"
)

// stretch is one part of a job's time.
type stretch struct {
	key, label, detail string
	from               time.Time
	length             time.Duration
	nodes              []views.NodeLine
	cached             *views.Folded
}

// timeline is a job's time from request to result: a strip, and a line for each part.
func timeline(in jobInput) (title string, trace views.Trace, lines []views.PhaseLine) {
	j := in.job.Job
	end := in.now
	if j.FinishedAt != nil {
		end = *j.FinishedAt
	}
	total := end.Sub(j.CreatedAt)
	title = tookText(total) + ", from request to result"
	switch {
	case !j.State.Final():
		title = "So far"
	case j.State != models.JobSucceeded:
		title = tookText(total) + ", from request to end"
	}
	lines = append(lines, views.PhaseLine{Key: "accepted", Label: "Accepted", Detail: "at " + j.CreatedAt.UTC().Format("15:04:05 MST")})
	trace = views.Trace{Class: "tall", Label: "From request to result:"}
	for _, s := range stretches(in, end) {
		lines = append(lines, views.PhaseLine{Key: s.key, Label: s.label, Detail: s.detail, Value: tookText(s.length), Nodes: s.nodes, Cached: s.cached, Open: s.key == "executed"})
		trace.Label += " " + s.label + " " + tookText(s.length)
		if total > 0 && s.length > 0 {
			trace.Segments = append(trace.Segments, views.Segment{
				Class: s.key, X: share(float64(s.from.Sub(j.CreatedAt)) / float64(total)), Width: share(float64(s.length) / float64(total)),
			})
		}
	}
	return title, trace, lines
}

// stretches cuts the job's time at what its attempts say.
func stretches(in jobInput, end time.Time) []stretch {
	j := in.job.Job
	var list []stretch
	at := j.CreatedAt
	for _, a := range in.attempts {
		if a.StartedAt == nil {
			continue // it never executed: that time was waiting
		}
		if wait := a.StartedAt.Sub(at); wait > 0 {
			list = append(list, stretch{key: "waited", label: "Waited", detail: waitedWords(in, a), from: at, length: wait})
		}
		stop := end
		if a.EndedAt != nil {
			stop = *a.EndedAt
		}
		if a.State == models.AttemptLost || a.State == models.AttemptReleased {
			list = append(list, stretch{key: "lost", label: "Attempt lost", detail: causeWords(string(a.Cause)) + " on " + workerLabel(a.Worker), from: *a.StartedAt, length: stop.Sub(*a.StartedAt)})
		} else {
			list = append(list, worked(in, a, stop)...)
		}
		at = stop
	}
	if wait := end.Sub(at); wait > 0 && (j.State == models.JobQueued || len(list) == 0) {
		list = append(list, stretch{key: "waited", label: "Waited", detail: waitingDetail(in), from: at, length: wait})
	}
	return list
}

func waitedWords(in jobInput, a models.Attempt) string {
	if a.Number > 1 {
		return "kept its place in the queue"
	}
	return "in the queue"
}

func waitingDetail(in jobInput) string {
	if j := in.job.Job; j.State == models.JobQueued {
		return in.names.waiting(j)
	}
	return ""
}

// worked is the time of an attempt that was not lost: loaded, executed, uploaded.
func worked(in jobInput, a models.Attempt, stop time.Time) []stretch {
	at := *a.StartedAt
	times := nodeTimes(a)
	if a.EndedAt == nil && a.ExecMS == 0 {
		return []stretch{{key: "executed", label: "Executing", detail: nodeWords(in.job.Job), from: at, length: stop.Sub(at)}}
	}
	var list []stretch
	add := func(s stretch) {
		s.from = at
		at = at.Add(s.length)
		list = append(list, s)
	}
	if a.LoadMS > 0 {
		add(stretch{key: "loaded", label: "Loaded", detail: "models", length: millis(a.LoadMS), nodes: nodeLines(times, func(n models.NodeTime) int64 { return n.LoadMS })})
	}
	ran := stretch{key: "executed", label: "Executed", detail: plural(len(times), "node"), length: millis(a.ExecMS), cached: cachedNodes(times)}
	ran.nodes = nodeLines(times, func(n models.NodeTime) int64 { return n.MS - n.LoadMS })
	if len(times) == 0 {
		ran.detail = "no node finished"
	}
	add(ran)
	if a.CollectMS > 0 {
		var bytes int64
		for _, o := range in.outputs {
			bytes += o.Size
		}
		add(stretch{key: "uploaded", label: "Stored", detail: fmt.Sprintf("%s, %s", plural(len(in.outputs), "file"), size(bytes)), length: millis(a.CollectMS)})
	}
	return list
}

func nodeTimes(a models.Attempt) []models.NodeTime {
	var times []models.NodeTime
	if a.NodeTimes == "" || json.Unmarshal([]byte(a.NodeTimes), &times) != nil {
		return nil
	}
	slices.SortStableFunc(times, func(x, y models.NodeTime) int { return int(x.StartMS - y.StartMS) })
	return times
}

// cachedNodes folds the nodes whose results the engine still had: they took no time. nil for none.
func cachedNodes(times []models.NodeTime) *views.Folded {
	var list []string
	for _, n := range times {
		if n.Cached {
			list = append(list, n.Node+" "+n.Class)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &views.Folded{ID: "cached-nodes", Label: count(len(list)) + " cached", Text: strings.Join(list, ", ")}
}

// nodeLines draws nodes side by side over the attempt's time. Nodes for which ms says zero are left out.
func nodeLines(times []models.NodeTime, ms func(models.NodeTime) int64) []views.NodeLine {
	var whole int64
	for _, n := range times {
		whole = max(whole, n.StartMS+n.MS)
	}
	var list []views.NodeLine
	for _, n := range times {
		took := ms(n)
		if took <= 0 || whole == 0 || n.Cached {
			continue
		}
		l := views.NodeLine{ID: n.Node, Label: n.Class, Value: tookText(millis(took)),
			X: share(float64(n.StartMS) / float64(whole)), Width: share(max(0.004, float64(took)/float64(whole)))}
		if n.Steps > 0 {
			l.Label += " " + strconv.Itoa(n.Steps) + " steps"
		}
		list = append(list, l)
	}
	return list
}
