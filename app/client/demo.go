package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// DemoOptions are what the demo runs.
type DemoOptions struct {
	Server string
	Key    string
	// Out is where the outputs go.
	Out string
	// WorkflowID names the workflow of the library and Title is it for people.
	WorkflowID string
	Title      string
	Params     map[string]json.RawMessage
	// Graph names the nodes in the progress line; nil for unknown.
	Graph json.RawMessage
	// Media are the input files by name.
	Media map[string][]byte

	Stdout   io.Writer
	Terminal bool // Stdout is one
	Width    func() int
}

// RunDemo runs one workflow of the library through the API as any client would, shows its progress and saves what it
// made.
func RunDemo(ctx context.Context, o DemoOptions) error {
	c, err := New(Options{Server: o.Server, Key: o.Key})
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("directory for outputs: %w", err)
	}
	req := Request{WorkflowID: o.WorkflowID, Params: o.Params}
	for _, name := range slices.Sorted(maps.Keys(o.Media)) {
		req.Media = append(req.Media, Media{Name: name, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(o.Media[name])), nil
		}})
	}
	d := NewDisplay(o.Stdout, o.Terminal, o.Width)
	defer d.Close()
	row := d.Add(o.Title, classesOf(o.Graph))
	began, r := time.Now(), Result{}
	if err := c.finish(ctx, req, o.Out, row, &r); err != nil {
		row.Done("failed: " + problemText(err))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.New("the demo's job failed")
	}
	row.Done(r.words(time.Since(began)))
	for _, path := range r.Outputs {
		d.Println("  saved " + path)
	}
	return nil
}
