package comfy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"comfyfleet/gpu"
)

const (
	// messageLimit and tracebackLimit bound what is kept of an exception, in bytes: messages may dump tensors.
	messageLimit   = 16 << 10
	tracebackLimit = 64 << 10
)

// entry is what we use of a history entry; its first field, the graph, is skipped.
type entry struct {
	Outputs json.RawMessage `json:"outputs"`
	Status  *struct {
		Str      string            `json:"status_str"`
		Messages []json.RawMessage `json:"messages"`
	} `json:"status"`
	Meta map[string]struct {
		Display string `json:"display_node"`
	} `json:"meta"`
}

// History asks GET /history/{id}; nil when the engine has no entry (unknown, or not finished). A *HistoryError says that
// there is an entry which the engine cannot send.
func (c *Client) History(ctx context.Context, promptID string) (*gpu.History, error) {
	raw, err := c.call(ctx, request{method: http.MethodGet, path: "/history/" + url.PathEscape(promptID), limit: answerLimit})
	if status := (*statusError)(nil); errors.As(err, &status) && status.code == http.StatusInternalServerError {
		return nil, &HistoryError{PromptID: promptID, Reason: "it answers 500: a node returned data that is not JSON"}
	}
	if errors.Is(err, errTooLarge) {
		return nil, &HistoryError{PromptID: promptID, Reason: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	h, err := decodeHistory(raw, promptID)
	if err != nil {
		return nil, fmt.Errorf("GET /history: %w", err)
	}
	return h, nil
}

// Forget asks POST /history to delete the entry.
func (c *Client) Forget(ctx context.Context, promptID string) error {
	return c.post(ctx, "/history", map[string][]string{"delete": {promptID}})
}

func decodeHistory(raw []byte, promptID string) (*gpu.History, error) {
	var all map[string]entry
	if err := decode(raw, &all); err != nil {
		return nil, err
	}
	e, ok := all[promptID]
	if !ok {
		return nil, nil
	}
	h := &gpu.History{PromptID: promptID, Success: true}
	if e.Status != nil { // versions before 2024 had none
		h.Success = e.Status.Str == "success"
		for _, m := range e.Status.Messages {
			addMessage(h, m)
		}
	}
	display := func(node string) string {
		if d := e.Meta[node].Display; d != "" {
			return d
		}
		return node
	}
	if h.Exception != nil {
		h.Exception.NodeID = display(h.Exception.NodeID)
	}
	var err error
	h.Outputs, err = outputs(e.Outputs, display)
	return h, err
}

// message is the union of the fields of execution_* messages and events.
type message struct {
	PromptID  string   `json:"prompt_id"`
	Nodes     []string `json:"nodes"`
	NodeID    string   `json:"node_id"`
	NodeType  string   `json:"node_type"`
	Text      string   `json:"exception_message"`
	Type      string   `json:"exception_type"`
	Traceback []string `json:"traceback"`
	Timestamp float64  `json:"timestamp"` // milliseconds
}

// addMessage takes in one [event, data] pair. What cannot be read is left out: the status decides, not the messages.
func addMessage(h *gpu.History, raw json.RawMessage) {
	var pair []json.RawMessage
	var event string
	var m message
	if json.Unmarshal(raw, &pair) != nil || len(pair) < 2 || json.Unmarshal(pair[0], &event) != nil ||
		json.Unmarshal(pair[1], &m) != nil {
		return
	}
	at := m.at()
	switch event {
	case "execution_start":
		h.StartedAt = at
		return
	case "execution_cached":
		h.Cached = m.Nodes
		return
	case "execution_success":
	case "execution_error":
		h.Exception = m.exception()
	case "execution_interrupted":
		h.Interrupted = true
	default:
		return
	}
	h.EndedAt = at
}

func (m message) at() time.Time {
	if m.Timestamp <= 0 || m.Timestamp > 1e15 { // beyond the year 33000: not milliseconds
		return time.Time{}
	}
	return time.UnixMilli(int64(m.Timestamp)).UTC()
}

func (m message) exception() *gpu.Exception {
	x := &gpu.Exception{NodeID: m.NodeID, NodeType: m.NodeType, Type: m.Type,
		Message: clip(strings.TrimSpace(m.Text), messageLimit)}
	room := tracebackLimit
	for _, l := range m.Traceback {
		if room -= len(l); room < 0 {
			break
		}
		x.Traceback = append(x.Traceback, strings.TrimRight(l, "\n"))
	}
	return x
}
