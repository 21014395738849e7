package web

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/views"
)

// presentStats are the four numbers. busy is the share of the last hour that the cards worked, -1 unknown.
func presentStats(d models.DayStats, busy int, oldest, now time.Time) []views.Stat {
	waiting := views.Quantity{Value: "–"}
	if !oldest.IsZero() {
		waiting = views.Quantity{Value: clock(now.Sub(oldest))}
	}
	p90 := views.Quantity{Value: "–"}
	if d.WaitP90MS > 0 {
		p90 = took(millis(d.WaitP90MS))
	}
	stats := []views.Stat{
		{Label: "Oldest waiting", Value: waiting.Value, Unit: waiting.Unit, URL: "/jobs?q=state:queued",
			Spark: spark(d.Buckets, "Longest wait", func(b models.DayBucket) int64 { return b.OldestWaitMS }, msWords)},
		{Label: "Queue wait, p90", Scope: "1 h", Value: p90.Value, Unit: p90.Unit, URL: "/jobs", Compare: "24 h: " + msWords(d.WaitP90DayMS),
			Spark: spark(d.Buckets, "Queue wait, p90", func(b models.DayBucket) int64 { return b.WaitP90MS }, msWords)},
		{Label: "Failed", Scope: "24 h", URL: "/jobs?q=state:failed", Value: "–",
			Spark: spark(d.Buckets, "Failed", func(b models.DayBucket) int64 { return int64(percent(int64(b.Failed), int64(b.Finished))) }, percentWords)},
		{Label: "Cards busy", Scope: "1 h", URL: "/gpus", Value: "–",
			Spark: spark(d.Buckets, "Cards busy", func(b models.DayBucket) int64 { return int64(b.BusyPercent) }, percentWords)},
	}
	if d.Finished > 0 {
		stats[2].Value, stats[2].Unit = strconv.FormatFloat(100*float64(d.Failed)/float64(d.Finished), 'f', 1, 64), "%"
		stats[2].Compare = count(d.Failed) + " of " + count(d.Finished)
	}
	if busy >= 0 {
		stats[3].Value, stats[3].Unit = strconv.Itoa(busy), "%"
	}
	if d.BusyDayPercent >= 0 {
		stats[3].Compare = "24 h: " + percentWords(int64(d.BusyDayPercent))
		if d.BusyDayPercent == 0 && d.Finished > 0 {
			stats[3].Compare = "24 h: under 1 %"
		}
	}
	return stats
}

func msWords(ms int64) string {
	if ms == 0 {
		return "–"
	}
	return tookText(millis(ms))
}

func percentWords(p int64) string { return strconv.FormatInt(p, 10) + " %" }

// spark draws buckets as a line in a box of 100 by 24, without axes: its label has the range.
func spark(buckets []models.DayBucket, what string, value func(models.DayBucket) int64, words func(int64) string) views.Spark {
	var most int64
	var at time.Time
	for _, b := range buckets {
		if v := value(b); v > most {
			most, at = v, b.From
		}
	}
	if most == 0 {
		return views.Spark{Label: what + ", 24 hours: nothing measured"}
	}
	points := make([]string, len(buckets))
	for i, b := range buckets {
		x := 100 * float64(i) / float64(max(1, len(buckets)-1))
		y := 22 - 20*float64(value(b))/float64(most)
		points[i] = strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64)
	}
	line := strings.Join(points, " ")
	return views.Spark{
		Label: fmt.Sprintf("%s, 24 hours, highest %s at %s UTC", what, words(most), at.UTC().Format("15:04")),
		Line:  line, Area: "0,24 " + line + " 100,24",
	}
}

// hourAxis are the labels under the strips.
func hourAxis(now time.Time) []string {
	var axis []string
	for m := 60; m > 0; m -= 15 {
		axis = append(axis, now.Add(-time.Duration(m)*time.Minute).UTC().Format("15:04"))
	}
	return append(axis, "now")
}

// busyShare is how much of the known part of the last hour all cards worked, in percent; -1 when nothing is known. What
// runs counts as it goes: the stored figures know only what has ended.
func busyShare(spans map[string][]models.Span, now time.Time) int {
	var worked, known time.Duration
	for _, list := range spans {
		sums, all := spanSums(list, now)
		worked += sums[models.SpanSampling] + sums[models.SpanLoading]
		known += all
	}
	if known == 0 {
		return -1
	}
	return percent(int64(worked), int64(known))
}

func presentStrip(w models.Worker, job models.Job, n names, spans []models.Span, now time.Time) views.Strip {
	shares, known := spanShares(spans, now)
	s := views.Strip{
		Name: workerLabel(w.Name), URL: "/gpus/" + w.Name, State: workerState(w, job),
		Trace:    hourTrace(spans, now, workerLabel(w.Name)+", last hour"),
		Sampling: percentWords(int64(shares[models.SpanSampling])), Loading: percentWords(int64(shares[models.SpanLoading])),
		Hot: shares[models.SpanLoading] >= hotLoading, Known: "of the last hour",
	}
	if known < time.Hour-time.Second {
		s.Known = "of the last " + clock(known) + ": nobody watched before"
	}
	if known == 0 {
		s.Sampling, s.Loading = "–", "–"
	}
	switch {
	case job.ID != "":
		s.What, _ = workflowWords(job)
		s.Note = nodeWords(job)
	case w.State == models.WorkerBackoff && len(w.Exits) > 0:
		s.What = exitWords(newestExit(w))
	case drained(w):
		s.Note = "takes nothing new"
	default:
		s.Note = n.say(w.Reason)
	}
	return s
}

func presentRun(j models.Job, n names, now time.Time) views.RunLine {
	name, _ := workflowWords(j)
	r := views.RunLine{Name: name, Tenant: n.tenant(j.TenantID), On: workerLabel(j.Worker), URL: "/jobs/" + j.ID, Progress: jobBar(j), Node: nodeWords(j)}
	if j.StartedAt != nil {
		r.For = since(*j.StartedAt, now, "")
	}
	return r
}

// presentShot is an output as a small picture; ok is false for what cannot be shown small.
func presentShot(j models.Job, o models.Output, now time.Time) (views.Shot, bool) {
	name, _ := workflowWords(j)
	s := views.Shot{URL: "/jobs/" + j.ID, Name: name, Alt: "Output of " + name, Note: since(o.CreatedAt, now, " ago")}
	switch o.Type {
	case "image":
		s.Image = "/outputs/" + o.ID
	case "video":
		s.Video = "/outputs/" + o.ID
	default:
		return s, false
	}
	if j.Simulated {
		s.Mark = "simulated"
	}
	return s, true
}

const (
	// hotLoading is the share of an hour spent on loading models from which affinity is said to fail, in percent.
	hotLoading = 30
	// hotAfter is how much of a worker's time must be known to say so: the first jobs after a start all load.
	hotAfter = 30 * time.Minute
	// diskLow is how much room for outputs is too little.
	diskLow = 10 << 30
	// failedShare is the share of failed jobs of a day that needs a look, in percent, when at least failedLeast failed.
	failedShare = 10
	failedLeast = 5
)

// trouble is what the list of things that need attention is made of.
type trouble struct {
	workers   []models.Worker
	spans     map[string][]models.Span
	diskFree  uint64
	diskKnown bool
	pauses    jobs.Pauses
	day       models.DayStats
	refused   string
}

// attention lists what needs a decision, worst first. Each comes with the way to mend it.
func attention(t trouble, now time.Time) []views.Attention {
	type ranked struct {
		rank int
		views.Attention
	}
	var list []ranked
	add := func(rank int, a views.Attention) { list = append(list, ranked{rank, a}) }
	for _, w := range t.workers {
		rank, a, ok := workerTrouble(w, t.spans[w.Name], t.refused, now)
		if ok {
			add(rank, a)
		}
	}
	if t.diskKnown && t.diskFree < diskLow {
		add(1, views.Attention{State: "failed", Title: "The disk is nearly full", Text: size(int64(t.diskFree)) + " are left for outputs. When it is full, new jobs are refused.",
			Act: views.Verb{Label: "Finished jobs", Link: "/jobs?q=state:succeeded", Small: true}})
	}
	if d := t.day; d.Failed >= failedLeast && percent(int64(d.Failed), int64(d.Finished)) >= failedShare {
		add(3, views.Attention{State: "failed", Title: fmt.Sprintf("%s of %s jobs failed in 24 hours", count(d.Failed), count(d.Finished)), Text: "The list shows why.",
			Act: views.Verb{Label: "Show them", Link: "/jobs?q=" + "state:failed+age:%3C24h", Small: true}})
	}
	if t.pauses.Intake || t.pauses.Dispatch {
		what := "intake"
		if t.pauses.Dispatch {
			what = "dispatch"
		}
		add(2, views.Attention{State: "warn", Title: sentenceCase(what) + " is paused", Text: "It stays so until somebody resumes it.",
			Act: views.Verb{Label: "Resume", Post: "/pause/" + what + "?to=off", Small: true, Disabled: t.refused}})
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return a.rank - b.rank })
	out := make([]views.Attention, len(list))
	for i, r := range list {
		out[i] = r.Attention
	}
	return out
}

func workerTrouble(w models.Worker, spans []models.Span, refused string, now time.Time) (rank int, a views.Attention, ok bool) {
	label := workerLabel(w.Name)
	shares, known := spanShares(spans, now)
	readLog := views.Verb{Label: "Read its log", Link: "/gpus/" + w.Name, Small: true}
	switch {
	case w.State == models.WorkerQuarantined:
		return 0, views.Attention{State: "quarantined", Title: label + " is quarantined", Text: downWords(w), Act: readLog}, true
	case w.State == models.WorkerBackoff:
		return 1, views.Attention{State: "backoff", Title: label + " is down and starts again by itself", Text: downWords(w), Act: readLog}, true
	case w.Telemetry != nil && w.Telemetry.XID != 0:
		return 2, views.Attention{State: "warn", Title: label + " reported a fault of the card", Text: fmt.Sprintf("XID %d since the driver loaded.", w.Telemetry.XID), Act: readLog}, true
	case known >= hotAfter && shares[models.SpanLoading] >= hotLoading:
		return 4, views.Attention{State: "loading", Title: fmt.Sprintf("%s spends %d %% of its hour loading", label, shares[models.SpanLoading]),
			Text: "Several model sets share one card.", Act: views.Verb{Label: "Look at it", Link: "/gpus/" + w.Name, Small: true}}, true
	case w.WantDrain:
		title := label + " is draining"
		if drained(w) {
			title = label + " is drained"
		}
		return 5, views.Attention{State: "draining", Title: title, Text: "It takes nothing new.",
			Act: views.Verb{Label: "Resume", Post: "/gpus/" + w.Name + "/resume", Small: true, Disabled: refused}}, true
	}
	return 0, a, false
}

func sentenceCase(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
