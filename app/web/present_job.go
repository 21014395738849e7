package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
	"comfyfleet/views"
)

// jobInput is everything that a job's page shows.
type jobInput struct {
	job      jobs.View
	update   jobs.Update // the hub's newest, zero when it does not run here
	names    names
	payload  models.JobPayload
	attempts []models.Attempt
	outputs  []models.Output
	texts    map[string]string // the beginning of text outputs, by id
	key      models.APIKey     // zero for the dashboard's own
	sent     []models.Delivery
	base     string // public URL
	now      time.Time
}

func presentHead(in jobInput) views.JobHead {
	j := in.job.Job
	name, version := workflowWords(j)
	h := views.JobHead{
		ID: j.ID, Short: shortID(j.ID), State: jobState(j), Workflow: name, Version: version, Tenant: in.names.tenant(j.TenantID),
		Attempts: plural(j.Attempts, "attempt"), Simulated: j.Simulated,
	}
	if j.WorkflowSlug != "" {
		h.WorkflowURL = "/run/" + j.WorkflowSlug
	}
	switch {
	case j.FinishedAt != nil:
		h.When, h.At = "finished", since(*j.FinishedAt, in.now, " ago")
	case j.StartedAt != nil && j.State == models.JobRunning:
		h.When, h.At = "runs for", since(*j.StartedAt, in.now, "")
	default:
		h.When, h.At = "waits for", since(j.CreatedAt, in.now, "")
	}
	return h
}

// presentSummary is the job's first tab.
func presentSummary(in jobInput) views.JobSummary {
	j := in.job.Job
	s := views.JobSummary{
		ID: j.ID, Outputs: presentOutputs(in), Inputs: inputLines(in.payload), Media: inputMedia(in.payload),
		Account: accountLines(in), Samples: samples(in.base, j, in.payload),
		AttemptsAside: fmt.Sprintf("%d, at most %d may fail", j.Attempts, models.MaxFaults),
	}
	s.Attempts, s.GivenBack = attemptLines(in)
	s.Title, s.Trace, s.Phases = timeline(in)
	s.WhyTitle, s.Why = why(in)
	switch {
	case j.State == models.JobRunning:
		s.Live = presentLive(in.job, in.update, in.now)
		s.Outputs.Note = "They appear here as soon as they are stored."
	case j.State == models.JobQueued:
		s.Waiting = &views.Waiting{Position: positionWords(in.job), Reason: sentence(in.names.waiting(j))}
	case j.State != models.JobSucceeded:
		s.Failure = presentFailure(j)
		s.Outputs.Note = "There are none."
	case len(in.outputs) == 0:
		s.Outputs.Note = "The graph saved nothing."
	}
	if a, lines := keptLog(j, in.attempts); len(lines) > 0 {
		s.Log = &views.LogBox{ID: "job-log", Title: fmt.Sprintf("%s, last %s", a, plural(len(lines), "line")), Lines: logLines(lines, "")}
	}
	return s
}

func positionWords(v jobs.View) string {
	switch v.QueuePosition {
	case 0:
		return "Queued."
	case 1:
		return "Next in the queue."
	}
	return fmt.Sprintf("About %s in the queue.", ordinal(v.QueuePosition))
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return count(n) + suffix
}

// presentLive is a job under way.
func presentLive(v jobs.View, u jobs.Update, now time.Time) *views.JobLive {
	l := &views.JobLive{Progress: jobBar(v.Job), Node: nodeWords(v.Job), Sub: stepBar(v.Job)}
	if v.Progress.NodesTotal > 0 {
		l.Right = fmt.Sprintf("%d of %s", v.Progress.NodesDone, plural(v.Progress.NodesTotal, "node"))
	}
	if u.PreviewVersion > 0 && v.Phase != models.PhaseCollecting {
		l.Preview = fmt.Sprintf("/jobs/%s/preview?v=%d", v.ID, u.PreviewVersion)
		l.PreviewNote = "Preview"
		if v.Progress.Max > 0 {
			l.PreviewNote = fmt.Sprintf("Preview, step %d", v.Progress.Value)
		}
		if v.Simulated {
			l.PreviewNote += ", simulated"
		}
	}
	if v.Stalled && v.Progress.LastEventAt != nil {
		l.Stalled = fmt.Sprintf("The engine has said nothing for %s. When its limit passes, the worker is restarted and the job runs again.", clock(now.Sub(*v.Progress.LastEventAt)))
	}
	return l
}

func presentFailure(j models.Job) *views.Failure {
	if j.State == models.JobCanceled {
		return &views.Failure{State: "canceled", Title: "Canceled", Text: "before it ended, on request."}
	}
	f := &views.Failure{State: string(j.State), Title: jobState(j).Word + ".", Text: sentence(j.Error), Code: j.ErrorCode, Nodes: nodeProblems(j.NodeErrors)}
	if f.Code == "" {
		f.Code = string(j.State)
	}
	if f.Text == "" {
		f.Text = sentence(causeWords(j.ErrorCode))
	}
	return f
}

// nodeProblems reads ComfyUI's node_errors: node id → class_type and errors.
func nodeProblems(raw string) []views.NodeProblem {
	var byNode map[string]struct {
		Class  string `json:"class_type"`
		Errors []struct {
			Message string `json:"message"`
			Details string `json:"details"`
		} `json:"errors"`
	}
	if raw == "" || json.Unmarshal([]byte(raw), &byNode) != nil {
		return nil
	}
	var list []views.NodeProblem
	for node, e := range byNode {
		for _, p := range e.Errors {
			list = append(list, views.NodeProblem{Node: node, Class: e.Class, Message: p.Message, Details: p.Details})
		}
	}
	slices.SortFunc(list, func(a, b views.NodeProblem) int {
		return strings.Compare(fmt.Sprintf("%8s%s", a.Node, a.Details), fmt.Sprintf("%8s%s", b.Node, b.Details))
	})
	return list
}

// attemptLines are the job's attempts, newest first. Those that were given back before they ran do not count and are
// folded.
func attemptLines(in jobInput) (list []views.AttemptLine, folded *views.Folded) {
	var back []string
	for _, a := range slices.Backward(in.attempts) {
		if a.State == models.AttemptReleased && a.StartedAt == nil {
			back = append(back, strconv.Itoa(a.Number)+" on "+workerLabel(a.Worker))
			continue
		}
		l := views.AttemptLine{Title: "Attempt " + strconv.Itoa(a.Number), On: workerLabel(a.Worker), Link: "/gpus/" + a.Worker, State: attemptState(in.job.Job, a.State), Detail: in.names.say(a.Detail)}
		if a.PID > 0 {
			l.Note = "pid " + strconv.Itoa(a.PID)
		}
		if a.State == models.AttemptReleased || a.State == models.AttemptStaging || a.State == models.AttemptStaged {
			l.Note = strings.TrimSpace(string(a.State) + " " + l.Note)
		}
		if a.Cause != models.CauseNone && (l.Detail == "" || strings.HasPrefix(l.Detail, "stopped: ")) {
			l.Detail = causeWords(string(a.Cause))
		}
		switch {
		case a.StartedAt == nil:
		case a.EndedAt != nil:
			l.Value = tookText(a.EndedAt.Sub(*a.StartedAt))
		default:
			l.Value = clock(in.now.Sub(*a.StartedAt))
		}
		list = append(list, l)
	}
	if len(back) > 0 {
		folded = &views.Folded{ID: "given-back", Label: count(len(back)) + " more, given back before they ran", Text: "Attempts " + strings.Join(back, ", ") + ". They do not count."}
	}
	return list, folded
}

func attemptState(j models.Job, s models.AttemptState) views.State {
	switch s {
	case models.AttemptSucceeded:
		return views.State{Name: "succeeded"}
	case models.AttemptFailed, models.AttemptLost:
		return views.State{Name: "failed"}
	case models.AttemptCanceled, models.AttemptReleased:
		return views.State{Name: "canceled"}
	case models.AttemptExecuting, models.AttemptCollecting:
		return jobState(j)
	}
	return views.State{Name: "queued"}
}

// keptLog is the log tail to show: the job's own, else that of the last attempt that kept one.
func keptLog(j models.Job, attempts []models.Attempt) (title string, lines []string) {
	if j.LogTail != "" {
		return "Worker's log at the end", tail(j.LogTail, 200)
	}
	for _, a := range slices.Backward(attempts) {
		if a.LogTail != "" {
			return "Attempt " + strconv.Itoa(a.Number), tail(a.LogTail, 200)
		}
	}
	return "", nil
}

// why says why the job is where it is.
func why(in jobInput) (title string, lines []views.WhyLine) {
	j := in.job.Job
	if j.State == models.JobQueued && j.Phase == models.PhaseWaiting {
		title = "Why it waits"
		lines = append(lines, views.WhyLine{State: "queued", Text: sentence(in.names.waiting(j))})
	} else if len(in.attempts) > 0 {
		last := in.attempts[len(in.attempts)-1]
		title = "Why " + workerLabel(last.Worker)
		if last.PlacedBecause != "" {
			lines = append(lines, views.WhyLine{State: "ok", Text: sentence(in.names.say(last.PlacedBecause))})
		}
	}
	for i, a := range in.attempts {
		if i == len(in.attempts)-1 && j.State.Final() {
			break // there is no next place from which to keep it
		}
		if a.Cause.Fault() || a.Cause == models.CauseOOM {
			lines = append(lines, views.WhyLine{State: "disabled", Mid: true, Text: fmt.Sprintf("%s was avoided: attempt %d ended there, %s.", workerLabel(a.Worker), a.Number, causeWords(string(a.Cause)))})
		}
	}
	return title, lines
}

// inputLines are the named inputs of the request.
func inputLines(p models.JobPayload) []views.KV {
	var sent struct {
		Inputs []struct {
			Node, Field string
			Value       json.RawMessage
		}
		Params map[string]json.RawMessage
	}
	if len(p.Inputs) == 0 || json.Unmarshal(p.Inputs, &sent) != nil {
		return nil
	}
	var kvs []views.KV
	keys := sortedKeys(sent.Params)
	slices.SortStableFunc(keys, func(a, b string) int { return inputRank(a) - inputRank(b) })
	for _, key := range keys {
		kvs = append(kvs, inputLine(key, sent.Params[key]))
	}
	for _, in := range sent.Inputs {
		kvs = append(kvs, inputLine(in.Node+"."+in.Field, in.Value))
	}
	return kvs
}

// inputRank puts what a person wrote before the numbers.
func inputRank(key string) int {
	switch {
	case !strings.Contains(key, "prompt"):
		return 2
	case strings.Contains(key, "negative"):
		return 1
	}
	return 0
}

// longValue is the length in bytes from which a value scrolls in a box of its own.
const longValue = 400

func inputLine(key string, value json.RawMessage) views.KV {
	kv := views.KV{Key: key, Value: string(value)}
	var text string
	if json.Unmarshal(value, &text) == nil {
		kv.Value = text
	}
	kv.Long = len(kv.Value) > longValue
	if strings.Contains(key, "seed") {
		kv.Copy = true
	}
	return kv
}

func inputMedia(p models.JobPayload) []views.InputMedia {
	var list []views.InputMedia
	for _, m := range p.Media {
		kind, _, _ := strings.Cut(m.ContentType, "/")
		list = append(list, views.InputMedia{Name: m.Name, URL: "/media/" + m.AssetID, Meta: size(m.Size), Kind: kind})
	}
	return list
}

func accountLines(in jobInput) []views.KV {
	j := in.job.Job
	kvs := []views.KV{{Key: "Tenant", Value: in.names.tenant(j.TenantID), Link: "/jobs?q=tenant:" + in.names.tenant(j.TenantID)}}
	if in.key.ID != "" {
		kvs = append(kvs, views.KV{Key: "Key", Value: in.key.Prefix + "…", Code: true, Note: in.key.Name})
	}
	kvs = append(kvs, views.KV{Key: "Origin", Value: string(j.Origin)}, views.KV{Key: "Priority", Value: strconv.Itoa(j.Priority)},
		views.KV{Key: "Accepted", Value: j.CreatedAt.UTC().Format(exactForm)})
	if j.DeadlineAt != nil {
		kvs = append(kvs, views.KV{Key: "Deadline", Value: j.DeadlineAt.UTC().Format(exactForm)})
	}
	if j.Metrics.GPUMS > 0 {
		kvs = append(kvs, views.KV{Key: "Card time", Value: gpuSeconds(j.Metrics.GPUMS)})
	}
	if j.PromptID != "" {
		kvs = append(kvs, views.KV{Key: "Prompt", Value: shortID(j.PromptID), Copy: true, Whole: j.PromptID})
	}
	if j.Metadata != "" {
		kvs = append(kvs, views.KV{Key: "Metadata", Value: j.Metadata, Code: true, Long: len(j.Metadata) > longValue})
	}
	if len(in.sent) > 0 {
		d := deliveryState(in.sent[len(in.sent)-1])
		kvs = append(kvs, views.KV{Key: "Webhook", State: &d})
	}
	return kvs
}

// gpuSeconds is card time in seconds; what is small keeps a second digit, so that it is not shown as nothing.
func gpuSeconds(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.2f GPU-s", max(0.01, float64(ms)/1000))
	}
	return fmt.Sprintf("%.1f GPU-s", float64(ms)/1000)
}

func deliveryState(d models.Delivery) views.State {
	switch d.State {
	case models.DeliveryDelivered:
		return views.State{Name: "succeeded", Word: "Delivered"}
	case models.DeliveryFailed:
		return views.State{Name: "failed", Word: "Not delivered"}
	}
	return views.State{Name: "queued", Word: "Due"}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
