package workflows

import (
	"bytes"
	"image/png"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBundledWorkflowsFitTogether(t *testing.T) {
	entries, err := Bundled()
	require.NoError(t, err)
	var slugs []string
	for _, e := range entries {
		slugs = append(slugs, e.Slug)
		t.Run(e.Slug, func(t *testing.T) {
			g := parse(t, string(e.Graph))
			require.NoError(t, Check(g, nil))
			require.NoError(t, g.Unsafe(nil))
			require.Len(t, g.Reachable(nil), len(g.Nodes()), "every node is there for an output")
			require.NotEmpty(t, e.Outputs)
			require.NotEmpty(t, e.Params)
			for _, p := range e.Params {
				require.NotNil(t, p.Default, p.Key)
				require.NotEmpty(t, p.Label, p.Key)
				value, problem := p.convert(p.Default)
				require.Empty(t, problem, "the graph's own value is a good one: %s", p.Key)
				require.Equal(t, string(p.Default), string(p.asIn(g, p.Targets[0], value)), p.Key)
				for _, target := range p.Targets[1:] {
					n, _ := g.Node(target.Node)
					v, _ := n.Input(target.Field)
					require.Equal(t, string(p.Default), string(v), "all fields of %s start equal", p.Key)
				}
				if p.Media() {
					name := unquoted(p.Default)
					require.Contains(t, e.Sample, name, "there is something to try %s with", p.Key)
					raw, err := g.Prepare(Prepared{JobID: jobID, AttemptID: attemptID, Media: map[string]string{name: "0.png"}})
					require.NoError(t, err)
					require.Contains(t, string(raw), `"`+jobID+`/0.png"`)
				}
			}
			s := jsonSchema(t, e.Params)
			require.NoError(t, s.VisitJSON(map[string]any{}))
			for name, raw := range e.Sample {
				_, err := png.Decode(bytes.NewReader(raw))
				require.NoError(t, err, name)
			}
		})
	}
	require.Equal(t, []string{"image-resize-invert", "text-to-image", "text-to-text", "wan22-smooth-loop"}, slugs)
}

func TestTheWanGraphIsTheOneOfTheGuide(t *testing.T) {
	entries, err := Bundled()
	require.NoError(t, err)
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Slug == "wan22-smooth-loop" })
	g := parse(t, string(entries[i].Graph))
	require.Len(t, g.Nodes(), 25)
	n, ok := g.Node("107")
	require.True(t, ok)
	v, _ := n.Input("image")
	require.Equal(t, "LoadImage", n.Class)
	require.Equal(t, `"107.png"`, string(v))
	n, _ = g.Node("16")
	_, ok = n.Input("positive_prompt")
	require.True(t, ok)
	n, _ = g.Node("30")
	v, _ = n.Input("filename_prefix")
	require.Equal(t, `"videoFinal"`, string(v))
	require.Len(t, g.ModelFiles(nil), 10)
}
