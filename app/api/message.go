package api

import (
	"fmt"
	"strconv"

	"comfyfleet/app/jobs"
	"comfyfleet/app/server"
	"comfyfleet/models"
)

// Events of a job's stream.
const (
	eventSnapshot = "snapshot"
	eventStatus   = "status"
	eventProgress = "progress"
	eventPreview  = "preview"
	eventOutput   = "output"
	eventLog      = "log"
)

// transport is how a follower's messages are written.
type transport int

const (
	overSSE transport = iota
	overSocket
	transports
)

// message is one event of a job's stream, rendered once for each transport however many follow.
type message struct {
	event string
	// rev is the revision that a client resumes after, 0 when it does not resume after this message.
	rev      int64
	data     []byte
	rendered [transports][]byte
}

func newMessage(event string, rev int64, data any) (*message, error) {
	b, err := server.EncodeJSON(data)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", event, err)
	}
	return &message{event: event, rev: rev, data: b}, nil
}

// frame is the message as t writes it. The topic's lock is held.
func (m *message) frame(t transport) []byte {
	if m.rendered[t] != nil {
		return m.rendered[t]
	}
	id := ""
	if m.rev > 0 {
		id = strconv.FormatInt(m.rev, 10)
	}
	if t == overSSE {
		m.rendered[t] = server.Event(id, m.event, m.data)
		return m.rendered[t]
	}
	if id == "" {
		id = "null"
	}
	m.rendered[t] = fmt.Appendf(nil, `{"event":%q,"id":%s,"data":%s}`, m.event, id, m.data)
	return m.rendered[t]
}

// snapshotData is the whole status object with outputs by URL.
type snapshotData struct {
	status
	Revision int64    `json:"revision"`
	Outputs  []output `json:"outputs"`
}

// statusData is a stored step of the job.
type statusData struct {
	JobID     string  `json:"job_id"`
	Status    string  `json:"status"`
	Phase     *string `json:"phase"`
	Revision  int64   `json:"revision"`
	Time      string  `json:"time"`
	Kind      string  `json:"kind"` // what happened, e.g. "started"
	Progress  int     `json:"progress"`
	Error     *string `json:"error"`
	ErrorCode *string `json:"error_code"`
}

func statusMessage(e models.Event, v jobs.View) (*message, error) {
	d := statusData{
		JobID: e.JobID, Status: statusWord(e.State), Phase: orNull(string(e.Phase)), Revision: e.Rev,
		Time: models.FormatTime(e.At), Kind: e.Kind, Progress: e.Percent,
	}
	if e.State.Final() {
		d.Error, d.ErrorCode = orNull(v.Error), orNull(v.ErrorCode)
	}
	return newMessage(eventStatus, e.Rev, d)
}

// progressData is a whole snapshot of the guide's progress fields.
type progressData struct {
	JobID string `json:"job_id"`
	progress
}

// previewData is a preview frame of the node that runs.
type previewData struct {
	JobID       string  `json:"job_id"`
	Node        *string `json:"node"`
	ContentType string  `json:"content_type"`
	Data        []byte  `json:"data"` // base64
}

type logData struct {
	JobID string   `json:"job_id"`
	Lines []string `json:"lines"`
}
