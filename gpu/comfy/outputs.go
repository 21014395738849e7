package comfy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"comfyfleet/gpu"
)

// outputs reads the UI data of all nodes: files wherever they are, and texts. The order is that of the node ids and,
// within a node, of the data. A file that is named twice counts once.
func outputs(raw json.RawMessage, display func(string) string) ([]gpu.NodeOutput, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var nodes map[string]json.RawMessage
	if err := json.Unmarshal(raw, &nodes); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(compareNodes(display(a), display(b)), compareNodes(a, b))
	})
	var all []gpu.NodeOutput
	seen := map[gpu.FileRef]bool{}
	for _, id := range ids {
		for _, o := range nodeOutputs(display(id), nodes[id]) {
			if o.File != nil {
				if seen[*o.File] {
					continue
				}
				seen[*o.File] = true
			}
			all = append(all, o)
		}
	}
	return all, nil
}

// nodeOutputs reads the UI data of one node.
func nodeOutputs(node string, raw json.RawMessage) (all []gpu.NodeOutput) {
	fields, err := objectFields(raw)
	if err != nil {
		return nil // data that is no object has neither files nor texts
	}
	for _, f := range fields {
		for _, o := range fieldOutputs(f) {
			o.Node, o.Key = node, f.key
			all = append(all, o)
		}
	}
	return all
}

// compareNodes orders node ids by their parts ("2.0.0.1", "57:8"): numbers first, by value, then text.
func compareNodes(a, b string) int {
	split := func(r rune) bool { return r == '.' || r == ':' }
	return slices.CompareFunc(strings.FieldsFunc(a, split), strings.FieldsFunc(b, split), func(x, y string) int {
		nx, ex := strconv.ParseUint(x, 10, 64)
		ny, ey := strconv.ParseUint(y, 10, 64)
		switch {
		case ex == nil && ey == nil:
			return cmp.Compare(nx, ny)
		case ex == nil:
			return -1
		case ey == nil:
			return 1
		}
		return cmp.Compare(x, y)
	})
}

// field is one key of a node's UI data.
type field struct {
	key   string
	value json.RawMessage
}

// objectFields reads an object's fields in their order, which a map would lose.
func objectFields(raw json.RawMessage) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var all []field
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		all = append(all, field{key, v})
	}
	return all, nil
}

// fieldOutputs are the artefacts of one key: a list of them, or a single one.
func fieldOutputs(f field) []gpu.NodeOutput {
	var items []json.RawMessage
	if json.Unmarshal(f.value, &items) != nil {
		items = []json.RawMessage{f.value}
	}
	var all []gpu.NodeOutput
	for _, item := range items {
		if file, ok := fileRef(item); ok {
			all = append(all, gpu.NodeOutput{File: &file})
			continue
		}
		var text *string
		if f.key == "text" && json.Unmarshal(item, &text) == nil && text != nil {
			all = append(all, gpu.NodeOutput{Text: *text, IsText: true})
		}
	}
	return all
}

// fileRef reads {filename, subfolder, type, format}. A fullpath, which names the host's directories, is left alone.
func fileRef(raw json.RawMessage) (gpu.FileRef, bool) {
	var f struct {
		Filename  *string         `json:"filename"`
		Subfolder json.RawMessage `json:"subfolder"`
		Type      json.RawMessage `json:"type"`
		Format    json.RawMessage `json:"format"`
	}
	if json.Unmarshal(raw, &f) != nil || f.Filename == nil || *f.Filename == "" {
		return gpu.FileRef{}, false
	}
	text := func(raw json.RawMessage) (s string) { _ = json.Unmarshal(raw, &s); return s }
	ref := gpu.FileRef{Filename: *f.Filename, Subfolder: text(f.Subfolder), Type: cmp.Or(text(f.Type), "output"),
		Format: text(f.Format)}
	return ref, slices.Contains([]string{"output", "temp", "input"}, ref.Type)
}
