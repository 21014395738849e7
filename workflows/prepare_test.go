package workflows

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	jobID     = "58e0c0c8-b8c2-413f-a3ac-9dc5ba940571"
	attemptID = "c0852d3d-8eca-4bd5-ae4d-1f1ba77c7ab0"
)

// prepared is one input of the graph as it would be sent, "absent" when it is not there.
func prepared(t *testing.T, g *Graph, media map[string]string, d *Defs, node, field string) string {
	t.Helper()
	raw, err := g.Prepare(Prepared{JobID: jobID, AttemptID: attemptID, Media: media, Defs: d})
	require.NoError(t, err)
	n, ok := parse(t, string(raw)).Node(node)
	require.True(t, ok)
	v, ok := n.Input(field)
	if !ok {
		return "absent"
	}
	return string(v)
}

func TestPrepareRewritesMediaNames(t *testing.T) {
	media := map[string]string{"107.png": "0.png", `C:\Users\me\x.png`: "1.png", "a/b.png": "2.png", "no extension": "3.bin", "one.safetensors": "4.bin"}
	for _, c := range []struct {
		what, class, field, value string
		defs                      bool
		want                      string
	}{
		{"upload field", "LoadImage", "image", `"107.png"`, true, `"` + jobID + `/0.png"`},
		{"upload field, any name", "LoadImage", "image", `"no extension"`, true, `"` + jobID + `/3.bin"`},
		{"video field", "LoadVideo", "file", `"a/b.png"`, true, `"` + jobID + `/2.png"`},
		{"path field of a custom loader", "PathLoader", "video", `"107.png"`, true, `"` + jobID + `/0.png"`},
		{"escaped name", "LoadImage", "image", `"\u003107.png"`, true, `"` + jobID + `/0.png"`},
		{"Windows path", "LoadImage", "image", `"C:\\Users\\me\\x.png"`, true, `"` + jobID + `/1.png"`},
		{"Windows path, class unknown", "Other", "file", `"C:\\Users\\me\\x.png"`, true, `"` + jobID + `/1.png"`},
		{"no definitions, with extension", "LoadImage", "image", `"107.png"`, false, `"` + jobID + `/0.png"`},
		{"no definitions, without extension", "LoadImage", "image", `"no extension"`, false, `"no extension"`},
		{"part of a value", "LoadImage", "image", `"my 107.png"`, true, `"my 107.png"`},
		{"multiline text", "CLIPTextEncode", "text", `"107.png"`, true, `"107.png"`},
		{"choice", "ImageScale", "crop", `"107.png"`, true, `"107.png"`},
		{"model file", "CheckpointLoaderSimple", "ckpt_name", `"one.safetensors"`, true, `"one.safetensors"`},
		{"other file", "LoadImage", "image", `"other.png"`, true, `"other.png"`},
	} {
		t.Run(c.what, func(t *testing.T) {
			g := parse(t, `{"7": {"class_type": "`+c.class+`", "inputs": {"`+c.field+`": `+c.value+`}}}`)
			var d *Defs
			if c.defs {
				d = testDefs(t)
			}
			before := string(g.JSON())
			require.Equal(t, c.want, prepared(t, g, media, d, "7", c.field))
			require.Equal(t, before, string(g.JSON()), "the job's own graph stays as it was")
		})
	}
}

func TestPrepareMakesOutputsTheAttemptsOwn(t *testing.T) {
	mine := func(base string) string { return `"` + attemptID + "/58e0c0c8_" + base + `"` }
	for _, c := range []struct{ value, want string }{
		{`"videoFinal"`, mine("videoFinal")},
		{`"video/ComfyUI"`, mine("ComfyUI")},
		{`"a\\b\\c"`, mine("c")},
		{`"../../x"`, mine("x")},
		{`"/abs"`, mine("abs")},
		{`"a/.."`, mine("output")},
		{`"…/."`, mine("output")},
		{`""`, mine("output")},
		{`"   "`, mine("output")},
		{`"a\u0000b\nc\u202e"`, mine("abc")},
		{`"%date%_%width%x%height%"`, mine("%date%_%width%x%height%")},
		{`"` + strings.Repeat("ä", 90) + `"`, mine(strings.Repeat("ä", 64))},
		{`["1", 0]`, mine("output")},
		{`5`, mine("output")},
	} {
		g := parse(t, `{"1": {"class_type": "X", "inputs": {}}, "4": {"class_type": "SaveImage", "inputs": {"filename_prefix": `+c.value+`}}}`)
		for _, d := range []*Defs{nil, testDefs(t)} {
			require.Equal(t, c.want, prepared(t, g, nil, d, "4", "filename_prefix"), c.value)
		}
	}
}

func TestPrepareAddsAnAbsentPrefixOnlyWhereTheClassTakesOne(t *testing.T) {
	absent := func(class string) *Graph {
		return parse(t, `{"4": {"class_type": "`+class+`", "inputs": {}}}`)
	}
	d := testDefs(t)
	require.Equal(t, `"`+attemptID+`/58e0c0c8_ComfyUI"`, prepared(t, absent("SaveVideo"), nil, d, "4", "filename_prefix"), "its default's base name")
	require.Equal(t, `"`+attemptID+`/58e0c0c8_output"`, prepared(t, absent("VHS_VideoCombine"), nil, d, "4", "filename_prefix"), "not in the definitions")
	require.Equal(t, `"`+attemptID+`/58e0c0c8_output"`, prepared(t, absent("SaveWEBM"), nil, nil, "4", "filename_prefix"))
	require.Equal(t, "absent", prepared(t, absent("PreviewAny"), nil, d, "4", "filename_prefix"))
	require.Equal(t, "absent", prepared(t, absent("LoadImage"), nil, nil, "4", "filename_prefix"))
}

func TestPrepareRefusesWhatOnlyDefinitionsShowToBeAPath(t *testing.T) {
	// A name that is a medium's passes Unsafe, since it would be replaced; the definition says that it would not be.
	d, err := ParseDefs([]byte(`{"Odd": {"input": {"required": {"where": ["STRING", {"multiline": true}]}}, "output": []}}`))
	require.NoError(t, err)
	g := parse(t, `{"1": {"class_type": "Odd", "inputs": {"where": "/etc/passwd"}}}`)
	require.NoError(t, g.Unsafe([]string{"/etc/passwd"}))
	_, err = g.Prepare(Prepared{JobID: jobID, AttemptID: attemptID, Media: map[string]string{"/etc/passwd": "0.bin"}, Defs: d})
	problem(t, err, ErrNameUnsafe)
}

func TestModelFilesAndLoaders(t *testing.T) {
	g := parse(t, `{
		"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base.safetensors"}},
		"2": {"class_type": "LoraLoader", "inputs": {"lora_name": "detail.safetensors", "model": ["1", 0], "strength_model": 1}},
		"3": {"class_type": "LoraLoader", "inputs": {"lora_name": "detail.safetensors", "model": ["2", 0]}},
		"4": {"class_type": "WanVideoModelLoader", "inputs": {"model": "WanVideo\\high.gguf"}},
		"5": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl.pth", "type": "flux"}},
		"6": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "unused.ckpt"}},
		"7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a.safetensors", "clip": ["5", 0]}},
		"9": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0], "a": ["4", 0], "b": ["7", 0]}}}`)
	d := testDefs(t)
	require.Equal(t, []string{"sdxl/base.safetensors", "detail.safetensors", `WanVideo\high.gguf`, "clip_l.safetensors", "t5xxl.pth"}, g.ModelFiles(d)[:5])
	require.Contains(t, g.LoaderNodes(d), "4")
	require.NotContains(t, g.LoaderNodes(d), "7")
}

func FuzzPrepareNeverLeavesTheJobsFolders(f *testing.F) {
	for _, s := range []string{"107.png", "../x", "a\\..\\b", "/etc/passwd", "%date%", "..", "\u202e/..", "con", " . "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := Parse([]byte(`{"1": {"class_type": "LoadImage", "inputs": {"image": "x"}}, "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		for node, field := range map[string]string{"1": "image", "2": "filename_prefix"} {
			if g.Set(node, field, quote(s)) != nil {
				return
			}
		}
		raw, err := g.Prepare(Prepared{JobID: jobID, AttemptID: attemptID})
		if err != nil {
			return
		}
		var sent map[string]struct {
			Inputs map[string]string `json:"inputs"`
		}
		if err := json.Unmarshal(raw, &sent); err != nil {
			t.Fatal(err)
		}
		prefix, ok := strings.CutPrefix(sent["2"].Inputs["filename_prefix"], attemptID+"/58e0c0c8_")
		if !ok || strings.ContainsAny(prefix, "/\\\x00\n") || prefix == "" {
			t.Fatalf("prefix %q", sent["2"].Inputs["filename_prefix"])
		}
		parts := strings.Split(strings.ReplaceAll(strings.TrimSpace(sent["1"].Inputs["image"]), `\`, "/"), "/")
		if slices.Contains(parts, "..") && !strings.ContainsAny(s, "\n\r") {
			t.Fatalf("image %q climbs", sent["1"].Inputs["image"])
		}
	})
}
