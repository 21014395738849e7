package comfy

import (
	"encoding/binary"
	"encoding/json"

	"comfyfleet/gpu"
)

// Kinds of binary frames; every frame begins with its kind as a big-endian uint32. Kind 2 (unencoded previews) never
// leaves the engine.
const (
	framePreview     = 1 // uint32 format, image
	frameText        = 3 // uint32 n, node id (n bytes), text
	framePreviewMeta = 4 // uint32 n, JSON (n bytes), image
)

// Formats of framePreview.
const (
	formatJPEG = 1
	formatPNG  = 2
)

// frame decodes a binary message. ok is false for kinds that are not known and for broken frames. The event's bytes
// share raw.
func frame(raw []byte) (e gpu.Event, ok bool) {
	kind, rest, ok := cutUint32(raw)
	if !ok {
		return gpu.Event{}, false
	}
	switch kind {
	case framePreview:
		return preview(rest)
	case frameText:
		node, text, ok := cutBytes(rest)
		return gpu.Event{Kind: gpu.EventText, Node: string(node), Text: clip(string(text), messageLimit)}, ok
	case framePreviewMeta:
		return previewMeta(rest)
	}
	return gpu.Event{}, false
}

// preview is without node and prompt: it belongs to whatever runs.
func preview(raw []byte) (gpu.Event, bool) {
	format, image, ok := cutUint32(raw)
	e := gpu.Event{Kind: gpu.EventPreview, Image: image}
	switch format {
	case formatJPEG:
		e.ImageType = "image/jpeg"
	case formatPNG:
		e.ImageType = "image/png"
	default:
		ok = false
	}
	return e, ok && len(image) > 0
}

func previewMeta(raw []byte) (gpu.Event, bool) {
	head, image, ok := cutBytes(raw)
	var m struct {
		Node      string `json:"node_id"`
		Display   string `json:"display_node_id"`
		PromptID  string `json:"prompt_id"`
		ImageType string `json:"image_type"`
	}
	if !ok || json.Unmarshal(head, &m) != nil || len(image) == 0 {
		return gpu.Event{}, false
	}
	// The type is handed on to browsers, so nothing else passes.
	if m.ImageType != "image/jpeg" && m.ImageType != "image/png" {
		return gpu.Event{}, false
	}
	return gpu.Event{Kind: gpu.EventPreview, PromptID: m.PromptID, Node: either(m.Display, m.Node), Image: image,
		ImageType: m.ImageType}, true
}

func cutUint32(raw []byte) (n uint32, rest []byte, ok bool) {
	if len(raw) < 4 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint32(raw), raw[4:], true
}

// cutBytes takes a length and as many bytes.
func cutBytes(raw []byte) (head, rest []byte, ok bool) {
	n, raw, ok := cutUint32(raw)
	if !ok || uint64(n) > uint64(len(raw)) {
		return nil, nil, false
	}
	return raw[:n], raw[n:], true
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
