package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Status words of a job.
const (
	StatusQueued    = "queued"
	StatusRunning   = "running"
	StatusCompleted = "completed"
	StatusFailed    = "failed"
)

// Job is a job as GET /v1/jobs/{id} shows it.
type Job struct {
	ID            string          `json:"job_id"`
	Status        string          `json:"status"`
	Progress      int             `json:"progress"`
	ProgressValue int             `json:"progress_value"`
	ProgressMax   int             `json:"progress_max"`
	NodesTotal    int             `json:"nodes_total"`
	NodesDone     int             `json:"nodes_done"`
	CurrentNode   *string         `json:"current_node"`
	CurrentClass  *string         `json:"current_class"`
	QueuePosition *int            `json:"queue_position"`
	WaitingReason *string         `json:"waiting_reason"`
	Stalled       bool            `json:"stalled"`
	Simulated     bool            `json:"simulated"`
	Attempts      int             `json:"attempts"`
	Error         *string         `json:"error"`
	ErrorCode     *string         `json:"error_code"`
	ErrorLogTail  []string        `json:"error_log_tail"`
	NodeErrors    json.RawMessage `json:"node_errors"`
	Outputs       []Output        `json:"outputs"`
}

// Output is one artefact of a completed job.
type Output struct {
	NodeID   string `json:"node_id"`
	Filename string `json:"filename"`
	Type     string `json:"type"`
	Size     int64  `json:"size_bytes"`
	SHA256   string `json:"sha256"`
	// URL is signed and valid for about an hour.
	URL string `json:"url"`
}

// Final reports whether the job has ended.
func (j Job) Final() bool { return j.Status == StatusCompleted || j.Status == StatusFailed }

// Reason is why the job failed, "" when it did not.
func (j Job) Reason() string {
	if j.Error == nil {
		return ""
	}
	return *j.Error
}

// Job asks for a job, without its outputs' data.
func (c *Client) Job(ctx context.Context, id string) (Job, error) {
	var j Job
	err := c.call(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(id)+"?data=none", &j)
	return j, err
}

// Cancel ends a job. It is no error when the job had ended before; the message says so.
func (c *Client) Cancel(ctx context.Context, id string) (message string, err error) {
	var answer struct {
		Message string `json:"message"`
	}
	err = c.call(ctx, http.MethodDelete, "/v1/jobs/"+url.PathEscape(id), &answer)
	return answer.Message, err
}
