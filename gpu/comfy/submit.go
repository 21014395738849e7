package comfy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"comfyfleet/gpu"
)

const (
	// takeBackFor bounds how long Submit tries to get rid of a prompt that the engine took although it is wrong; an
	// interrupt is lost when the prompt has not really started, so it is repeated every takeBackPause.
	takeBackFor   = 10 * time.Second
	takeBackPause = 250 * time.Millisecond
)

type promptBody struct {
	Prompt    json.RawMessage `json:"prompt"`
	PromptID  string          `json:"prompt_id"`
	ClientID  string          `json:"client_id"`
	ExtraData extraData       `json:"extra_data"`
}

// extraData is visible to everybody who may ask the engine: no secrets here.
type extraData struct {
	PreviewMethod string          `json:"preview_method"`
	PNGInfo       json.RawMessage `json:"extra_pnginfo,omitempty"`
}

type promptReply struct {
	PromptID   string          `json:"prompt_id"`
	NodeErrors json.RawMessage `json:"node_errors"`
}

// Submit asks POST /prompt. A refusal (400, 413, or 200 with node_errors) is a *gpu.Rejection; its node errors are
// without the engine's tracebacks, which name paths of the host.
func (c *Client) Submit(ctx context.Context, p gpu.Prompt) error {
	body := promptBody{Prompt: p.Graph, PromptID: p.ID, ClientID: p.ClientID,
		ExtraData: extraData{PreviewMethod: "none", PNGInfo: p.ExtraPNGInfo}}
	if p.Previews {
		body.ExtraData.PreviewMethod = "auto"
	}
	raw, err := c.call(ctx, request{method: http.MethodPost, path: "/prompt", body: body})
	if status := (*statusError)(nil); errors.As(err, &status) {
		return refusal(status)
	}
	if err != nil {
		return err
	}
	var reply promptReply
	if err := decode(raw, &reply); err != nil {
		return unreachable(http.MethodPost, "/prompt", fmt.Errorf("read the reply: %w", err))
	}
	if reply.PromptID != p.ID {
		return c.takeBack(ctx, reply.PromptID, &gpu.Rejection{Type: "engine_too_old", NodeErrors: json.RawMessage("{}"),
			Message: "ComfyUI 0.3.45 or newer is needed: this one does not let clients choose the prompt id"})
	}
	if errs := nodeErrors(reply.NodeErrors); string(errs) != "{}" {
		return c.takeBack(ctx, p.ID, &gpu.Rejection{Type: "prompt_outputs_failed_validation", NodeErrors: errs,
			Message: "some outputs of the graph failed validation"})
	}
	return nil
}

// refusal turns an answer of POST /prompt that says no into a Rejection.
func refusal(e *statusError) error {
	switch e.code {
	case http.StatusRequestEntityTooLarge:
		return &gpu.Rejection{Type: "too_large", NodeErrors: json.RawMessage("{}"),
			Message: "the graph is larger than the engine accepts"}
	case http.StatusBadRequest:
	default:
		return e
	}
	var b struct {
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Details string `json:"details"`
		} `json:"error"`
		NodeErrors json.RawMessage `json:"node_errors"`
	}
	err := decode(e.body, &b)
	r := &gpu.Rejection{Type: b.Error.Type, Message: b.Error.Message, Details: b.Error.Details,
		NodeErrors: nodeErrors(b.NodeErrors)}
	if err != nil || r.Type == "" {
		r.Type, r.Message = "bad_request", clip(string(e.body), 500)
	}
	return r
}

// nodeErrors is the node_errors object without tracebacks, "{}" when it is empty, missing or something else.
func nodeErrors(raw json.RawMessage) json.RawMessage {
	var nodes map[string]map[string]json.RawMessage
	if len(raw) == 0 || decode(raw, &nodes) != nil || len(nodes) == 0 {
		return json.RawMessage("{}")
	}
	for _, node := range nodes {
		var list []map[string]json.RawMessage
		if json.Unmarshal(node["errors"], &list) != nil {
			continue
		}
		for _, e := range list {
			var extra map[string]json.RawMessage
			if json.Unmarshal(e["extra_info"], &extra) == nil && extra["traceback"] != nil {
				delete(extra, "traceback")
				e["extra_info"] = mustEncode(extra)
			}
		}
		node["errors"] = mustEncode(list)
	}
	return mustEncode(nodes)
}

// mustEncode writes what was decoded from JSON a moment ago, which cannot fail.
func mustEncode(v any) json.RawMessage {
	raw, err := encode(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return json.RawMessage(raw[:len(raw)-1]) // without the encoder's newline
}

// takeBack removes a prompt that must not run, and its history when it has started. Whether or not that works, the
// answer is the rejection: the prompt's results are not wanted.
func (c *Client) takeBack(ctx context.Context, id string, r *gpu.Rejection) error {
	ctx, cancel := context.WithTimeout(ctx, takeBackFor)
	defer cancel()
	tick := time.NewTicker(takeBackPause)
	defer tick.Stop()
	for {
		err := c.Unqueue(ctx, id)
		q, qerr := c.Queue(ctx)
		running, pending := q.Has(id)
		if err == nil && qerr == nil && !running && !pending {
			_ = c.Forget(ctx, id) // there is an entry only if it had started
			return r
		}
		if running {
			_ = c.Interrupt(ctx, id) // repeated until it is gone
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (the engine still has the prompt)", r)
		case <-tick.C:
		}
	}
}
