package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"comfyfleet/app/jobs"
	"comfyfleet/models"
)

// Words of the guide for a job's state.
const (
	statusQueued    = "queued"
	statusRunning   = "running"
	statusCompleted = "completed"
	statusFailed    = "failed"
)

// statusWord is a state in the guide's words.
func statusWord(s models.JobState) string {
	switch s {
	case models.JobQueued:
		return statusQueued
	case models.JobRunning:
		return statusRunning
	case models.JobSucceeded:
		return statusCompleted
	}
	return statusFailed
}

// progress are the guide's progress fields: all of them present from the beginning.
type progress struct {
	Status        string  `json:"status"`
	Phase         *string `json:"phase"`
	Progress      int     `json:"progress"`
	ProgressValue int     `json:"progress_value"`
	ProgressMax   int     `json:"progress_max"`
	NodesTotal    int     `json:"nodes_total"`
	NodesDone     int     `json:"nodes_done"`
	CurrentNode   *string `json:"current_node"`
	CurrentClass  *string `json:"current_class"`
	PromptID      *string `json:"prompt_id"`
	LastEventTime *string `json:"last_event_time"`
}

func progressOf(state models.JobState, phase models.Phase, p models.Progress, promptID string) progress {
	out := progress{
		Status: statusWord(state), Phase: orNull(string(phase)), Progress: p.Percent, ProgressValue: p.Value, ProgressMax: p.Max,
		NodesTotal: p.NodesTotal, NodesDone: p.NodesDone, PromptID: orNull(promptID), LastEventTime: timeOrNull(p.LastEventAt),
	}
	if state == models.JobRunning {
		out.CurrentNode, out.CurrentClass = orNull(p.CurrentNode), orNull(p.CurrentClass)
	}
	return out
}

// status is the guide's status object and what came to it since. Outputs are added where it is written.
type status struct {
	JobID string `json:"job_id"`
	progress
	CreatedAt     string          `json:"created_at"`
	StartedAt     *string         `json:"started_at"`
	FinishedAt    *string         `json:"finished_at"`
	EstimatedTime *int            `json:"estimated_time,omitempty"` // in the answer to a submission that waits
	WorkflowID    *string         `json:"workflow_id"`
	Priority      int             `json:"priority"`
	QueuePosition *int            `json:"queue_position"`
	WaitingReason *string         `json:"waiting_reason"`
	Stalled       bool            `json:"stalled"`
	Simulated     bool            `json:"simulated"`
	Attempts      int             `json:"attempts"`
	Metrics       metrics         `json:"metrics"`
	Error         *string         `json:"error"`
	ErrorCode     *string         `json:"error_code"`
	ErrorLogTail  []string        `json:"error_log_tail"`
	NodeErrors    json.RawMessage `json:"node_errors"`
	Metadata      json.RawMessage `json:"metadata"`
}

type metrics struct {
	QueueMS     int64   `json:"queue_ms"`
	LoadMS      int64   `json:"load_ms"`
	ExecutionMS int64   `json:"execution_ms"`
	CollectMS   int64   `json:"collect_ms"`
	GPUSeconds  float64 `json:"gpu_seconds"`
}

func statusOf(v jobs.View) status {
	s := status{
		JobID:    v.ID,
		progress: progressOf(v.State, v.Phase, v.Progress, v.PromptID),

		CreatedAt: models.FormatTime(v.CreatedAt), StartedAt: timeOrNull(v.StartedAt), FinishedAt: timeOrNull(v.FinishedAt),
		WorkflowID: orNull(workflowID(v.Job)), Priority: v.Priority,
		WaitingReason: orNull(v.WaitingReason), Stalled: v.Stalled, Simulated: v.Simulated, Attempts: v.Attempts,
		Metrics: metrics{
			QueueMS: v.Metrics.QueueMS, LoadMS: v.Metrics.LoadMS, ExecutionMS: v.Metrics.ExecMS, CollectMS: v.Metrics.CollectMS,
			GPUSeconds: float64(v.Metrics.GPUMS) / 1000,
		},
		Error: orNull(v.Error), ErrorCode: orNull(v.ErrorCode), ErrorLogTail: lines(v.LogTail),
		NodeErrors: rawOrNull(v.NodeErrors), Metadata: rawOrNull(v.Metadata),
	}
	if v.QueuePosition > 0 {
		s.QueuePosition = &v.QueuePosition
	}
	return s
}

// output is one artefact in the status object.
type output struct {
	OutputID    string  `json:"output_id"`
	Filename    string  `json:"filename"`
	Type        string  `json:"type"`
	ContentType string  `json:"content_type"`
	SizeBytes   int64   `json:"size_bytes"`
	SHA256      string  `json:"sha256"`
	NodeID      string  `json:"node_id"`
	Temp        bool    `json:"temp"`
	URL         string  `json:"url"`
	Data        *string `json:"data"` // always null here; see document
}

func outputOf(o models.Output, url string) output {
	return output{
		OutputID: o.ID, Filename: o.Filename, Type: o.Type, ContentType: o.ContentType, SizeBytes: o.Size, SHA256: o.SHA256,
		NodeID: o.NodeID, Temp: o.Temp, URL: url,
	}
}

// workflowID is the library entry that a job ran, "slug@3"; "" for a raw graph.
func workflowID(j models.Job) string {
	if j.WorkflowSlug == "" {
		return ""
	}
	return fmt.Sprintf("%s@%d", j.WorkflowSlug, j.WorkflowVersion)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timeOrNull(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := models.FormatTime(*t)
	return &s
}

// rawOrNull is stored JSON as it is, null for none or for what is not JSON.
func rawOrNull(s string) json.RawMessage {
	if s == "" || !json.Valid([]byte(s)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(s)
}

// lines is never nil: clients iterate over it.
func lines(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(strings.TrimRight(s, "\n"), "\n")
}
