package comfy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"comfyfleet/gpu"
)

// Queue asks GET /queue.
func (c *Client) Queue(ctx context.Context) (gpu.Queue, error) {
	raw, err := c.call(ctx, request{method: http.MethodGet, path: "/queue", limit: answerLimit})
	if err != nil {
		return gpu.Queue{}, err
	}
	q, err := decodeQueue(raw)
	if err != nil {
		return gpu.Queue{}, fmt.Errorf("GET /queue: %w", err)
	}
	return q, nil
}

// Unqueue asks POST /queue to delete.
func (c *Client) Unqueue(ctx context.Context, promptID string) error {
	return c.post(ctx, "/queue", map[string][]string{"delete": {promptID}})
}

// Interrupt asks POST /interrupt for this prompt only. Before ComfyUI 0.3.57 the engine ignores the id and interrupts
// whatever runs; such a version is too old in any case.
func (c *Client) Interrupt(ctx context.Context, promptID string) error {
	return c.post(ctx, "/interrupt", map[string]string{"prompt_id": promptID})
}

// queued is an item with its place in the order.
type queued struct {
	number float64
	item   gpu.QueueItem
}

func decodeQueue(raw []byte) (gpu.Queue, error) {
	var body struct {
		Running *[][]json.RawMessage `json:"queue_running"`
		Pending *[][]json.RawMessage `json:"queue_pending"`
	}
	if err := decode(raw, &body); err != nil {
		return gpu.Queue{}, err
	}
	if body.Running == nil || body.Pending == nil {
		return gpu.Queue{}, fmt.Errorf("this is not how ComfyUI answers")
	}
	running, err := queueItems(*body.Running)
	if err != nil {
		return gpu.Queue{}, err
	}
	pending, err := queueItems(*body.Pending)
	if err != nil {
		return gpu.Queue{}, err
	}
	return gpu.Queue{Running: running, Pending: pending}, nil
}

// queueItems reads [number, prompt_id, graph, extra_data, outputs_to_execute, …] tuples and sorts them as the engine
// will run them.
func queueItems(tuples [][]json.RawMessage) ([]gpu.QueueItem, error) {
	all := make([]queued, 0, len(tuples))
	for _, t := range tuples {
		var q queued
		if len(t) < 2 || json.Unmarshal(t[1], &q.item.PromptID) != nil {
			// Leaving it out could hide a prompt that runs.
			return nil, fmt.Errorf("a queue item without a prompt id")
		}
		_ = json.Unmarshal(t[0], &q.number) // only the order hangs on it
		if len(t) > 3 {
			var extra struct {
				ClientID string `json:"client_id"`
			}
			_ = json.Unmarshal(t[3], &extra) // another client's data may have any shape
			q.item.ClientID = extra.ClientID
		}
		if len(t) > 4 {
			_ = json.Unmarshal(t[4], &q.item.Outputs)
		}
		all = append(all, q)
	}
	slices.SortFunc(all, func(a, b queued) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.item.PromptID, b.item.PromptID))
	})
	items := make([]gpu.QueueItem, len(all))
	for i, q := range all {
		items[i] = q.item
	}
	return items, nil
}
