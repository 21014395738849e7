package comfy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"comfyfleet/gpu"
)

// Info asks GET /system_stats.
func (c *Client) Info(ctx context.Context) (gpu.EngineInfo, error) {
	raw, err := c.call(ctx, request{method: http.MethodGet, path: "/system_stats"})
	if err != nil {
		return gpu.EngineInfo{}, err
	}
	var stats struct {
		System *struct {
			Version   string   `json:"comfyui_version"`
			Argv      []string `json:"argv"`
			Simulator bool     `json:"comfyfleet_simulator"`
		} `json:"system"`
		Devices []struct {
			Total float64 `json:"vram_total"`
			Free  float64 `json:"vram_free"`
		} `json:"devices"`
	}
	if err := decode(raw, &stats); err != nil || stats.System == nil {
		return gpu.EngineInfo{}, errors.Join(errors.New("GET /system_stats: this is not how ComfyUI answers"), err)
	}
	info := gpu.EngineInfo{Version: stats.System.Version, Argv: stats.System.Argv, Simulated: stats.System.Simulator}
	if len(stats.Devices) > 0 {
		info.VRAMTotal, info.VRAMFree = int64(stats.Devices[0].Total), int64(stats.Devices[0].Free)
	}
	return info, nil
}

// NodeDefs asks GET /object_info. Limits of inputs that are infinite in Python come as null.
func (c *Client) NodeDefs(ctx context.Context) (json.RawMessage, error) {
	raw, err := c.call(ctx, request{method: http.MethodGet, path: "/object_info", wait: defsWait, limit: defsLimit})
	if err != nil {
		return nil, err
	}
	if !json.Valid(raw) {
		raw, _ = scrub(raw)
		if !json.Valid(raw) {
			return nil, fmt.Errorf("GET /object_info: %d bytes that are not JSON", len(raw))
		}
	}
	return raw, nil
}

// Free asks POST /free; the engine does it between prompts.
func (c *Client) Free(ctx context.Context, memory bool) error {
	return c.post(ctx, "/free", map[string]bool{"unload_models": true, "free_memory": memory})
}

// post sends an order that has no answer.
func (c *Client) post(ctx context.Context, path string, body any) error {
	_, err := c.call(ctx, request{method: http.MethodPost, path: path, body: body})
	return err
}
