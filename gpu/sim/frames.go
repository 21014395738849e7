package sim

import (
	"encoding/binary"
	"encoding/json"
)

// Binary WebSocket messages, big endian (ComfyUI's BinaryEventTypes).
const (
	framePreview         = 1
	frameText            = 3
	framePreviewMetadata = 4

	imageJPEG = 1
)

// legacyFrame is a preview that names neither node nor prompt.
func legacyFrame(jpeg []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, framePreview)
	out = binary.BigEndian.AppendUint32(out, imageJPEG)
	return append(out, jpeg...)
}

// metadataFrame is a preview that says where it comes from.
func metadataFrame(n *node, promptID string, jpeg []byte) []byte {
	var parent any
	real := n.id
	if n.parent != "" {
		parent, real = n.parent, n.parent
	}
	meta, err := json.Marshal(ordered{{"node_id", n.id}, {"prompt_id", promptID}, {"display_node_id", n.displayID()}, {"parent_node_id", parent},
		{"real_node_id", real}, {"image_type", "image/jpeg"}})
	if err != nil {
		panic(err) // plain strings always encode
	}
	out := binary.BigEndian.AppendUint32(nil, framePreviewMetadata)
	out = binary.BigEndian.AppendUint32(out, uint32(len(meta)))
	return append(append(out, meta...), jpeg...)
}

// textFrame is a progress text of a node.
func textFrame(nodeID, text string) []byte {
	out := binary.BigEndian.AppendUint32(nil, frameText)
	out = binary.BigEndian.AppendUint32(out, uint32(len(nodeID)))
	return append(append(out, nodeID...), text...)
}
