package workflows

import (
	"fmt"
	"strings"

	"comfyfleet/models"
)

// Names of the errors that this package answers, all with models.CodeUnprocessed. Those of graphs that an engine would
// refuse are the engine's own words (server.py and execution.py of ComfyUI).
const (
	ErrNameEditorFormat = "editor_format"    // the editor's file instead of the API format
	ErrNameMalformed    = "graph_malformed"  // not an API-format graph
	ErrNameTooLarge     = "graph_too_large"  // more bytes or nodes than MaxBytes, MaxNodes
	ErrNameEmpty        = "graph_empty"      // no nodes
	ErrNameUnknownNode  = "unknown_node"     // an override names a node that the graph lacks
	ErrNameUnknownField = "unknown_field"    // an override names a field that the node lacks
	ErrNameBadValue     = "invalid_value"    // a value that is not JSON, or not of the parameter's type
	ErrNameUnsafe       = "unsafe_input"     // would read or write files outside the job's own
	ErrNameUnknownParam = "unknown_param"    // the workflow has no such parameter
	ErrNameMissingParam = "missing_param"    // a required parameter was not given
	ErrNameBadParams    = "params_malformed" // a parameter list that does not fit its graph

	ErrNameMissingType = "missing_node_type"
	ErrNameNoOutputs   = "prompt_no_outputs"
	ErrNameInvalid     = "prompt_outputs_failed_validation"
)

func unprocessable(name, format string, args ...any) *models.Error {
	return models.Errorf(models.CodeUnprocessed, name, format, args...)
}

// describe names a node as its author knows it: id, title and class.
func (n *Node) describe() string {
	if n.Title == "" || n.Title == n.Class {
		return fmt.Sprintf("node %s (%s)", n.ID, n.Class)
	}
	return fmt.Sprintf("node %s %q (%s)", n.ID, shorten(n.Title), n.Class)
}

// shorten cuts a client's string to what fits an error message.
func shorten(s string) string {
	const most = 60
	r := []rune(strings.ToValidUTF8(s, "?"))
	if len(r) <= most {
		return string(r)
	}
	return string(r[:most]) + "…"
}
