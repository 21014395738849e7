package web

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"comfyfleet/models"
	"comfyfleet/views"
)

// workerState is a worker's state as a glyph and a word. job is what it executes, zero when nothing or unknown.
func workerState(w models.Worker, job models.Job) views.State {
	s := views.State{Name: string(w.State), Word: strings.ToUpper(string(w.State[:1])) + string(w.State[1:])}
	switch {
	case w.State == models.WorkerBusy && job.Phase == models.PhaseLoading:
		s.Name, s.Word = "loading", "Loading"
	case w.State == models.WorkerBusy:
		s.Percent = job.Progress.Percent
	case w.State == models.WorkerStopping:
		s.Name = "draining"
	case drained(w):
		s.Name, s.Word = "draining", "Drained"
	}
	return s
}

// drained reports whether a worker that takes nothing new has nothing left to do either.
func drained(w models.Worker) bool {
	idle := w.State == models.WorkerDraining && w.ExecutingJobID == ""
	return idle || w.State == models.WorkerStopped && w.WantDrain
}

// workerFacts is the line beside a worker's name.
func workerFacts(w models.Worker) string {
	switch {
	case w.Card != nil:
		return "PCI " + shortPCI(w.Card.PCI) + ", " + shortUUID(w.Card.UUID)
	case w.Kind == models.WorkerSimulated:
		return "simulated"
	case w.Kind == models.WorkerAttached:
		return "attached, " + w.URL
	}
	return string(w.Kind)
}

// shortPCI drops the domain and the function of a bus id: 00000000:3B:00.0 is 3b:00.
func shortPCI(id string) string {
	parts := strings.Split(strings.ToLower(id), ":")
	if len(parts) < 2 {
		return id
	}
	device, _, _ := strings.Cut(parts[len(parts)-1], ".")
	return parts[len(parts)-2] + ":" + device
}

func shortUUID(id string) string {
	if len(id) < 16 {
		return id
	}
	return id[:8] + "…" + id[len(id)-4:]
}

// cardInput is everything that a worker's card shows.
type cardInput struct {
	worker  models.Worker
	job     models.Job // what it executes; ID "" for nothing
	names   names
	typical time.Duration // of the job's workflow, 0 unknown
	spans   []models.Span
	refused string // why the reader cannot act
	now     time.Time
}

// heldShown is how many model files a card names.
const heldShown = 4

// biggest are the n largest of the files, largest first, and how many are left.
func biggest(files []models.ResidentModel, n int) (big []models.ResidentModel, more int) {
	big = slices.SortedStableFunc(slices.Values(files), func(a, b models.ResidentModel) int { return cmp.Compare(b.Size, a.Size) })
	if len(big) <= n+1 {
		return big, 0
	}
	return big[:n], len(big) - n
}

// presentCard is one worker.
func presentCard(in cardInput) views.GPUCard {
	w := in.worker
	c := views.GPUCard{
		Name: w.Name, Label: workerLabel(w.Name), URL: "/gpus/" + w.Name, Facts: workerFacts(w), State: workerState(w, in.job),
		Meters: meters(in), Memory: memory(w), Hour: hourTrace(in.spans, in.now, workerLabel(w.Name)+", last hour"), Foot: foot(w, in.now),
	}
	c.Hour.Class += " hourstrip"
	if in.job.ID != "" && w.State.Up() {
		c.Job = cardJob(in)
	} else {
		c.Notice = notice(w, in.now)
	}
	held, more := biggest(w.Models, heldShown)
	for _, m := range held {
		h := views.HeldModel{File: m.File, Used: clock(in.now.Sub(m.LastUsed)) + " ago"}
		if m.Size > 0 {
			h.Size = size(m.Size)
		}
		if in.job.ID != "" && w.State == models.WorkerBusy && in.job.StartedAt != nil && !m.LastUsed.Before(*in.job.StartedAt) {
			h.Used = "in use"
		}
		c.Held = append(c.Held, h)
	}
	switch {
	case len(c.Held) == 0:
		c.Held = []views.HeldModel{{File: "No model resident"}}
	case more > 0:
		c.Held = append(c.Held, views.HeldModel{File: count(more) + " more files", Rest: true})
	}
	c.Verbs, c.More = workerVerbs(w, in.refused)
	return c
}

func cardJob(in cardInput) *views.CardJob {
	name, version := workflowWords(in.job)
	j := &views.CardJob{
		Name: strings.TrimSpace(name + " " + version), Tenant: in.names.tenant(in.job.TenantID), Short: shortID(in.job.ID), URL: "/jobs/" + in.job.ID,
		Progress: jobBar(in.job), Node: nodeWords(in.job), Sub: stepBar(in.job),
	}
	if in.job.StartedAt == nil {
		return j
	}
	j.For = since(*in.job.StartedAt, in.now, "")
	if in.now.Sub(*in.job.StartedAt) < in.typical { // beyond it the estimate is known to be wrong
		j.Of = " of about " + clock(in.typical)
	}
	return j
}

// stepBar is the current node's own progress, nil when it has no steps.
func stepBar(j models.Job) *views.Progress {
	if j.Progress.Max == 0 || j.State != models.JobRunning {
		return nil
	}
	return &views.Progress{Percent: percent(int64(j.Progress.Value), int64(j.Progress.Max)), State: jobState(j).Name, Label: "Steps of this node"}
}

// notice is what a worker without a job says: state first, cause second, next step last.
func notice(w models.Worker, now time.Time) *views.CardNotice {
	n := &views.CardNotice{State: workerState(w, models.Job{}).Name, Text: sentence(w.Reason)}
	if drained(w) {
		n.State, n.Bold, n.Text = "", "Drained.", "It takes nothing new until it is resumed."
		return n
	}
	switch w.State {
	case models.WorkerReady:
		n.State, n.Bold = "", "Idle."
		if w.IdleSince != nil {
			n.Text = "Nothing to do for " + clock(now.Sub(*w.IdleSince)) + "."
		}
	case models.WorkerBusy:
		n.Bold = "Works on a prompt."
	case models.WorkerStopped:
		n.State, n.Bold = "", "Stopped."
		if n.Text == "" {
			n.Text = "It starts when a job needs it."
		}
	case models.WorkerStarting:
		n.Bold = "Starting for " + clock(now.Sub(w.Since)) + "."
	case models.WorkerStopping:
		n.Bold = "Stopping."
	case models.WorkerDraining:
		n.Bold, n.Text = "Draining.", "It finishes what it has and takes nothing new until it is resumed."
	case models.WorkerBackoff:
		n.Bold = "Starts again soon."
		if w.NextStartAt != nil {
			at := until(*w.NextStartAt, now)
			at.Suffix = "."
			n.Bold, n.Until = "Starts again in", &at
		}
		n.Text = downWords(w)
	case models.WorkerQuarantined:
		n.Bold = "Quarantined."
		n.Text = downWords(w) + " It waits for an operator."
	case models.WorkerDisabled:
		n.State, n.Bold = "", "Disabled."
		if n.Text == "" {
			n.Text = "An operator took it out."
		}
	}
	return n
}

// downWords is why a worker is down, with its last exit when the reason does not tell it already.
func downWords(w models.Worker) string {
	text := sentence(w.Reason)
	if len(w.Exits) == 0 {
		return text
	}
	e := newestExit(w)
	if e.Reason != "" && strings.Contains(w.Reason, e.Reason) {
		return text
	}
	return strings.TrimSpace(text + " Last: " + exitWords(e) + ".")
}

func newestExit(w models.Worker) models.WorkerExit {
	newest := w.Exits[0]
	for _, e := range w.Exits {
		if e.At.After(newest.At) {
			newest = e
		}
	}
	return newest
}

func exitWords(e models.WorkerExit) string {
	how := "exit " + strconv.Itoa(e.Code)
	if e.Signal != "" {
		how = e.Signal
	} else if e.Code < 0 {
		how = "exit not seen"
	}
	if e.Reason != "" {
		how += ", " + e.Reason
	}
	return how
}

// meters are the readings of a card. Without a driver they are what we know ourselves: no telemetry is not zero.
func meters(in cardInput) []views.Meter {
	w, t := in.worker, in.worker.Telemetry
	if t == nil {
		return ownMeters(in)
	}
	m := []views.Meter{{Label: "Busy"}, {Label: "Heat"}, {Label: "Power"}, {Label: "RSS"}}
	m[0].Quantity = views.Quantity{Value: strconv.Itoa(t.GPUUtil), Unit: "%"}
	m[1].Quantity = views.Quantity{Value: strconv.Itoa(t.Temperature), Unit: "°C"}
	unit := "W"
	if t.PowerLimit > 0 {
		unit = fmt.Sprintf("of %.0f W", t.PowerLimit)
	}
	m[2].Quantity = views.Quantity{Value: fmt.Sprintf("%.0f", t.Power), Unit: unit}
	if w.RSS > 0 {
		m[3].Quantity = sizeOf(w.RSS)
	}
	return m
}

// ownMeters are the shares of the worker's hour and its process's memory; a dash is what is not known yet.
func ownMeters(in cardInput) []views.Meter {
	m := []views.Meter{{Label: "Sampling"}, {Label: "Loading"}, {Label: "Idle"}, {Label: "RSS"}}
	if shares, known := spanShares(in.spans, in.now); known > 0 {
		for i, share := range []int{shares[models.SpanSampling], shares[models.SpanLoading], shares[models.SpanIdle] + shares[models.SpanCollecting]} {
			m[i].Quantity = views.Quantity{Value: strconv.Itoa(share), Unit: "%"}
		}
	}
	if in.worker.RSS > 0 {
		m[3].Quantity = sizeOf(in.worker.RSS)
	}
	return m
}

// memory is a card's memory: what the engine holds, and what others do. nil when nobody says.
func memory(w models.Worker) *views.Memory {
	total, used, engine := w.VRAMTotal, int64(0), int64(0)
	if total > 0 {
		engine = max(0, total-w.VRAMFree)
		used = engine
	}
	if w.Telemetry != nil && w.Card != nil && w.Card.MemoryTotal > 0 {
		total, used = w.Card.MemoryTotal, w.Telemetry.MemoryUsed
		engine = min(engine, used)
		if w.VRAMTotal == 0 {
			engine = 0
		}
	}
	if total <= 0 {
		return nil
	}
	other := used - engine
	f := func(n int64) float64 { return float64(n) / float64(total) }
	m := &views.Memory{Used: fmt.Sprintf("%.1f", float64(used)/1e9), Total: size(total)}
	m.Trace = views.Trace{Class: "thin mm", Label: fmt.Sprintf("%s in use by the engine, %s by other processes, of %s", size(engine), size(other), size(total)), Segments: []views.Segment{
		{Class: "resident", X: share(0), Width: share(f(engine))},
		{Class: "other", X: share(f(engine)), Width: share(f(other))},
	}}
	return m
}

// foot is a worker's uptime and record.
func foot(w models.Worker, now time.Time) string {
	var parts []string
	switch {
	case w.StartedAt != nil && w.State.Up():
		parts = append(parts, "Up "+clock(now.Sub(*w.StartedAt)))
	case w.State == models.WorkerBackoff || w.State == models.WorkerQuarantined:
		parts = append(parts, "Down "+clock(now.Sub(w.Since)))
	}
	parts = append(parts, plural(w.JobsDone, "job"), plural(w.Restarts, "restart"))
	if w.Adopted {
		parts = append(parts, "adopted")
	}
	return strings.Join(parts, ", ")
}

// hourTrace draws spans over the hour before now. What nobody saw, and what nobody wanted, stays blank.
func hourTrace(spans []models.Span, now time.Time, label string) views.Trace {
	t := views.Trace{Class: "hour"}
	from := now.Add(-time.Hour)
	for _, s := range spans {
		class := spanClass(s.Kind)
		to := s.To
		if to.IsZero() || to.After(now) {
			to = now
		}
		start := s.From
		if start.Before(from) {
			start = from
		}
		if class == "" || !to.After(start) {
			continue
		}
		t.Segments = append(t.Segments, views.Segment{
			Class: class, X: share(start.Sub(from).Hours()), Width: share(to.Sub(start).Hours()),
		})
	}
	sums, known := spanShares(spans, now)
	if known < time.Hour {
		label += " as far as it is known"
	}
	t.Label = fmt.Sprintf("%s: sampling %d %%, loading %d %%, down %d %%", label, sums[models.SpanSampling], sums[models.SpanLoading], sums[models.SpanDown])
	return t
}

// spanClass is how a span is drawn; "" is not at all.
func spanClass(kind models.SpanKind) string {
	switch kind {
	case models.SpanOff:
		return ""
	case models.SpanCollecting: // the card itself rests
		return models.SpanIdle
	}
	return kind
}

// spanShares are percentages by kind of the part of the last hour that the spans tell of, and how long that is: of a
// server that started a minute ago, a minute. Of an hour nobody saw, busy cards would be nearly idle.
func spanShares(spans []models.Span, now time.Time) (shares map[models.SpanKind]int, known time.Duration) {
	sums, known := spanSums(spans, now)
	shares = map[models.SpanKind]int{}
	for k, d := range sums {
		shares[k] = percent(int64(d), int64(known))
	}
	return shares, known
}

// spanSums are the times by kind within the last hour, and all together.
func spanSums(spans []models.Span, now time.Time) (sums map[models.SpanKind]time.Duration, known time.Duration) {
	sums = map[models.SpanKind]time.Duration{}
	from := now.Add(-time.Hour)
	for _, s := range spans {
		to := s.To
		if to.IsZero() || to.After(now) {
			to = now
		}
		start := s.From
		if start.Before(from) {
			start = from
		}
		if to.After(start) {
			sums[s.Kind] += to.Sub(start)
			known += to.Sub(start)
		}
	}
	return sums, known
}
