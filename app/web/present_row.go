package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"comfyfleet/models"
	"comfyfleet/views"
)

// names are what ids are called.
type names struct {
	tenants map[string]string
	workers map[string]bool
}

func (n names) tenant(id string) string {
	if name, ok := n.tenants[id]; ok {
		return name
	}
	return shortID(id)
}

// say is a text of the fleet with its workers called as on every page: "sim1 was free" is "Sim 1 was free".
func (n names) say(text string) string {
	var b strings.Builder
	word := func(r rune) bool { return r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return !word(r) })
		if end < 0 {
			end = len(text)
		}
		if n.workers[text[:end]] {
			b.WriteString(workerLabel(text[:end]))
		} else {
			b.WriteString(text[:end])
		}
		text = text[end:]
		next := strings.IndexFunc(text, word)
		if next < 0 {
			next = len(text)
		}
		b.WriteString(text[:next])
		text = text[next:]
	}
	return b.String()
}

// workerLabel is how people call a worker: gpu0 is GPU 0, sim1 is Sim 1.
func workerLabel(name string) string {
	letters := strings.TrimRightFunc(name, unicode.IsDigit)
	digits := name[len(letters):]
	switch {
	case name == "":
		return ""
	case letters == "" || digits == "":
		return name
	case letters == "gpu":
		return "GPU " + digits
	}
	return strings.ToUpper(letters[:1]) + letters[1:] + " " + digits
}

// workerMark is the short form for a column that is headed GPU: the card's number, or the name of what is no card.
func workerMark(name string) string { return strings.TrimPrefix(workerLabel(name), "GPU ") }

// jobState is a job's state as a glyph and a word.
func jobState(j models.Job) views.State {
	s := views.State{Name: string(j.State), Percent: j.Progress.Percent}
	switch {
	case j.State == models.JobRunning && j.Phase == models.PhaseLoading:
		s.Name, s.Word = "loading", "Loading"
	case j.State == models.JobRunning && j.Phase == models.PhaseCollecting:
		s.Word = "Collecting"
	case j.State == models.JobRunning:
		s.Word = "Running"
	case j.State == models.JobSucceeded:
		s.Word = "Succeeded"
	case j.State == models.JobFailed:
		s.Word = "Failed"
	case j.State == models.JobCanceled:
		s.Word = "Canceled"
	case j.State == models.JobExpired:
		s.Word = "Expired"
	default:
		s.Word = "Queued"
	}
	return s
}

// jobBar is the whole job's progress.
func jobBar(j models.Job) views.Progress {
	return views.Progress{Percent: j.Progress.Percent, State: jobState(j).Name, Label: "Job " + shortID(j.ID)}
}

// nodeWords is what a job under way is at: "KSampler 21/50".
func nodeWords(j models.Job) string {
	p := j.Progress
	switch {
	case j.Phase == models.PhaseCollecting:
		return "Storing outputs"
	case p.CurrentClass == "" && p.CurrentNode == "":
		return "Between nodes"
	}
	name := p.CurrentClass
	if name == "" {
		name = "node " + p.CurrentNode
	}
	if p.Max > 0 {
		return fmt.Sprintf("%s %d/%d", name, p.Value, p.Max)
	}
	return name
}

// workflowWords is the name and version of what a job runs.
func workflowWords(j models.Job) (name, version string) {
	if j.WorkflowSlug == "" {
		return "raw graph", ""
	}
	return j.WorkflowSlug, "v" + strconv.Itoa(j.WorkflowVersion)
}

// presentRow is a job as one line of a list. result is what it made, in words.
func presentRow(j models.Job, n names, result string, now time.Time) views.JobRow {
	name, version := workflowWords(j)
	r := views.JobRow{
		ID: j.ID, Short: shortID(j.ID), URL: "/jobs/" + j.ID, State: jobState(j),
		Workflow: name, Version: version, Tenant: n.tenant(j.TenantID),
		Running: j.State == models.JobRunning, Progress: jobBar(j),
		Origin: string(j.Origin), GPU: views.Quantity{Value: workerMark(placeOf(j))},
		Waited: took(waited(j, now)), Age: since(j.CreatedAt, now, ""),
		Attempts: strconv.Itoa(j.Attempts), Many: j.Attempts > 1, Simulated: j.Simulated && !strings.HasPrefix(j.Worker, "sim"), // its name says it else
	}
	switch {
	case j.State == models.JobQueued && j.StartedAt == nil:
		t := runs(j.CreatedAt, now)
		r.WaitedSince = &t
	case j.StartedAt == nil:
	case j.State == models.JobRunning:
		t := runs(*j.StartedAt, now)
		r.RanSince = &t
	case j.FinishedAt != nil:
		r.Ran = took(j.FinishedAt.Sub(*j.StartedAt))
	}
	r.Detail, r.Plain = rowDetail(j, n, result)
	return r
}

// placeOf is where a job is or was executed; a job that was put back to the queue is nowhere.
func placeOf(j models.Job) string {
	if j.State == models.JobQueued && j.Phase == models.PhaseWaiting {
		return ""
	}
	return j.Worker
}

// rowDetail is the progress, the reason or the result; plain when it is of the ordinary kind.
func rowDetail(j models.Job, n names, result string) (text string, plain bool) {
	switch j.State {
	case models.JobRunning:
		return nodeWords(j), true
	case models.JobQueued:
		return n.waiting(j), true
	case models.JobSucceeded:
		return result, true
	case models.JobFailed:
		if j.Error == "" {
			return causeWords(j.ErrorCode), false
		}
		return firstLine(j.Error), false
	}
	return firstLine(j.Error), true
}

// waiting is why a queued job waits.
func (n names) waiting(j models.Job) string {
	switch {
	case j.Phase == models.PhaseStaged:
		return "next on " + workerLabel(j.Worker)
	case j.Phase == models.PhaseStaging:
		return "goes to " + workerLabel(j.Worker)
	case j.WaitingReason != "":
		return n.say(strings.TrimSuffix(j.WaitingReason, ", 0 ahead"))
	}
	return "waits for its turn"
}

// waited is how long a job was or has been queued before it first ran.
func waited(j models.Job, now time.Time) time.Duration {
	switch {
	case j.StartedAt != nil:
		return j.StartedAt.Sub(j.CreatedAt)
	case j.FinishedAt != nil:
		return j.FinishedAt.Sub(j.CreatedAt)
	}
	return now.Sub(j.CreatedAt)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// causeWords says an error code in words, for what has no message of its own.
func causeWords(code string) string {
	switch models.Cause(code) {
	case models.CauseCrashed:
		return "the worker's process died"
	case models.CauseUnreachable:
		return "the worker did not answer"
	case models.CauseStalled:
		return "no progress for too long"
	case models.CauseZombie:
		return "the engine's queue was stuck"
	case models.CausePoisoned:
		return "a CUDA error that only a new process mends"
	case models.CauseVanished:
		return "the engine forgot the prompt"
	case models.CauseServerStop:
		return "the server was stopped"
	case models.CauseTakenBack:
		return "it was given back before it ran"
	case models.CauseDeadline:
		return "it ran past its deadline"
	}
	return strings.ReplaceAll(code, "_", " ")
}
