package jobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"comfyfleet/gpu"
)

// nodeErrors is the engine's node_errors object (protocol §1, POST /prompt).
type nodeErrors map[string]struct {
	ClassType string `json:"class_type"`
	Errors    []struct {
		Message string `json:"message"`
		Details string `json:"details"`
	} `json:"errors"`
}

// message says to the tenant what was wrong with the graph.
func message(out gpu.Outcome) string {
	if e := out.Exception; e != nil {
		return fmt.Sprintf("node %s (%s): %s: %s", e.NodeID, e.NodeType, e.Type, strings.TrimSpace(e.Message))
	}
	if first := firstNodeError(out.NodeErrors); first != "" {
		return first
	}
	return out.Detail
}

// firstNodeError is the first of the engine's complaints, "" when it named no node: its own summary says only that
// there are some.
func firstNodeError(raw json.RawMessage) string {
	var all nodeErrors
	if len(raw) == 0 || json.Unmarshal(raw, &all) != nil {
		return ""
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		n := all[id]
		if len(n.Errors) == 0 {
			continue
		}
		text := fmt.Sprintf("node %s (%s): %s", id, n.ClassType, n.Errors[0].Message)
		if d := n.Errors[0].Details; d != "" {
			text += ": " + d
		}
		return text
	}
	return ""
}
