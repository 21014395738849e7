package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// task reads one file of a batch and adds the overrides and media of the command line.
func (o SubmitOptions) task(file string) (task, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return task{}, err
	}
	t := task{file: file}
	if t.request, err = readRequest(raw); err != nil {
		return task{}, fmt.Errorf("%s: %w", file, err)
	}
	t.classes = classesOf(t.request.Workflow)
	for _, set := range o.Set {
		in, err := parseSet(set)
		if err != nil {
			return task{}, err
		}
		t.request.Inputs = append(t.request.Inputs, in)
	}
	for _, arg := range o.Media {
		m, err := parseMedia(arg)
		if err != nil {
			return task{}, err
		}
		t.request.Media = append(t.request.Media, m)
	}
	if o.Priority != 0 {
		t.request.Priority = o.Priority
	}
	if o.Webhook != "" {
		t.request.WebhookURL = o.Webhook
	}
	return t, nil
}

// readRequest reads a graph, or a whole request body as one would post it with curl.
func readRequest(raw []byte) (Request, error) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf")) // editors on Windows put it there
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return Request{}, fmt.Errorf("not a JSON object: %w", err)
	}
	if members["workflow"] == nil && members["workflow_id"] == nil || isNode(members["workflow"]) {
		return Request{Workflow: raw}, nil
	}
	var r struct {
		Request
		Media []struct {
			Name string `json:"name"`
			Data string `json:"data"`
			URL  string `json:"url"`
		} `json:"media"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return Request{}, fmt.Errorf("not a request body: %w", err)
	}
	for _, m := range r.Media {
		data := m.Data
		r.Request.Media = append(r.Request.Media, Media{Name: m.Name, URL: m.URL, encoded: &data})
	}
	return r.Request, nil
}

// isNode tells a graph with a node called "workflow" from a request.
func isNode(raw json.RawMessage) bool {
	var node struct {
		Class string `json:"class_type"`
	}
	return raw != nil && json.Unmarshal(raw, &node) == nil && node.Class != ""
}

// classesOf names the nodes of a graph, for the progress line.
func classesOf(graph json.RawMessage) map[string]string {
	var nodes map[string]struct {
		Class string `json:"class_type"`
	}
	if len(graph) == 0 || json.Unmarshal(graph, &nodes) != nil {
		return nil
	}
	classes := make(map[string]string, len(nodes))
	for id, n := range nodes {
		classes[id] = n.Class
	}
	return classes
}

// parseSet reads NODE.FIELD=VALUE. Node ids of the editor have no dot; fields may.
func parseSet(arg string) (Input, error) {
	target, value, ok := strings.Cut(arg, "=")
	node, field, dotted := strings.Cut(target, ".")
	if !ok || !dotted || node == "" || field == "" {
		return Input{}, fmt.Errorf("--set wants NODE.FIELD=VALUE, not %q", arg)
	}
	in := Input{Node: node, Field: field, Value: json.RawMessage(value), Type: "raw"}
	if !json.Valid(in.Value) {
		raw, err := json.Marshal(value)
		if err != nil {
			return Input{}, fmt.Errorf("--set %s: %w", target, err)
		}
		in.Value = raw
	}
	return in, nil
}

// parseMedia reads NAME=PATH, NAME=URL or PATH.
func parseMedia(arg string) (Media, error) {
	name, path, ok := strings.Cut(arg, "=")
	if !ok {
		name, path = filepath.Base(arg), arg
	}
	if name == "" || path == "" {
		return Media{}, fmt.Errorf("--media wants NAME=PATH, not %q", arg)
	}
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		return Media{Name: name, URL: path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return Media{}, err
	}
	if !info.Mode().IsRegular() {
		return Media{}, fmt.Errorf("media %s: %s is not a file", name, path)
	}
	return Media{Name: name, Open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}
