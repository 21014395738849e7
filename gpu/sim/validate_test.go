package sim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"comfyfleet/gpu/sim"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestRefusalsReadLikeComfyUIs(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "in.png", picture(t, 96, 64)).status)
	good := chain("t/simple")
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	var text strings.Builder
	for _, c := range []struct{ name, graph string }{
		{"missing node type", `{"1":{"class_type":"NoSuchNode","inputs":{},"_meta":{"title":"My node"}}}`},
		{"no class_type", `{"1":{"inputs":{}}}`},
		{"required input missing", with(`"width":128,`, ``)},
		{"missing image file", with("in.png", "nope.png")},
		{"image outside the directory", with("in.png", "../output/x.png")},
		{"absolute image", with("in.png", "/etc/passwd")},
		{"value not in list", with("bilinear", "bogus")},
		{"too small and too big", strings.Replace(with(`"width":128`, `"width":-5`), `"height":96`, `"height":1000000000`, 1)},
		{"wrong type", with(`"width":128`, `"width":"abc"`)},
		{"null", with(`"width":128`, `"width":null`)},
		{"link to a missing node", with(`["1",0]`, `["99",0]`)},
		{"link to a missing slot", with(`["1",0]`, `["1",7]`)},
		{"bad link", with(`["1",0]`, `["1"]`)},
		{"wrong link type", with(`["1",0]`, `["1",1]`)},
		{"no outputs", `{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"}}}`},
		{"cycle", with(`["1",0]`, `["3",0]`)},
		{"empty", `{}`},
		{"output without inputs", `{"1":{"class_type":"SaveImage"}}`},
		{"output linked to nothing", `{"1":{"class_type":"SaveImage","inputs":{"images":["9",0],"filename_prefix":"x"}}}`},
		{"float above its limit", `{"1":{"class_type":"SolidMask","inputs":{"value":1.5,"width":8,"height":8}},"2":{"class_type":"MaskPreview","inputs":{"mask":["1",0]}}}`},
		{"seed above 64 bits", `{"1":{"class_type":"SimOutput","inputs":{"kind":"text","count":1,"bytes":0,"filename_prefix":"x","seed":18446744073709551616}}}`},
		{"a long list", `{"1":{"class_type":"KSampler","inputs":{"sampler_name":"nope"}},"2":{"class_type":"PreviewAny","inputs":{"source":["1",0]}}}`},
	} {
		a := r.do("POST", "/prompt", M{"prompt": json.RawMessage(c.graph)})
		require.Equal(t, 400, a.status, c.name)
		pretty, err := json.MarshalIndent(scrub(any(a.json(t))), "", " ")
		require.NoError(t, err)
		fmt.Fprintf(&text, "# %s\n%s\n", c.name, pretty)
	}
	golden(t, "refusals", text.String())
}

func TestMalformedBodiesAreBare500s(t *testing.T) {
	r := start(t)
	good := json.RawMessage(stepped(1, 1, 0.001, false))
	for name, body := range map[string]any{
		"not JSON": "nope", "a list": M{"prompt": []int{1, 2}}, "a node that is text": M{"prompt": M{"1": "str"}},
		"a number that is none": M{"prompt": good, "number": "abc"}, "a null prompt": `{"prompt":null}`, "an array body": `[]`,
	} {
		a := r.do("POST", "/prompt", body)
		require.Equal(t, 500, a.status, name)
		require.Equal(t, "text/plain; charset=utf-8", a.header.Get("Content-Type"), name)
	}
	for _, id := range []string{"not-a-uuid", strings.ToUpper(uuid.NewString()), "6ba7b8109dad11d180b400c04fd430c8"} {
		a := r.do("POST", "/prompt", M{"prompt": good, "prompt_id": id})
		require.Equal(t, 400, a.status)
		require.Equal(t, "invalid_prompt_id", a.json(t)["error"].(M)["type"])
	}
	require.Equal(t, "no_prompt", r.do("POST", "/prompt", M{}).json(t)["error"].(M)["type"])
	a := r.do("POST", "/prompt", M{"prompt": good})
	require.Equal(t, 7.0, a.json(t)["number"], "refused prompts take numbers too, but not what is no JSON object or has its own")
	require.NoError(t, uuid.Validate(a.json(t)["prompt_id"].(string)))
}

func TestOneGoodOutputIsEnough(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	graph := strings.TrimSuffix(stepped(1, 1, 0.001, false), "}") + `,"9":{"class_type":"SaveImage","inputs":{"filename_prefix":"x","bogus":1}}}`
	a := r.do("POST", "/prompt", M{"prompt": json.RawMessage(graph), "client_id": "a"})
	require.Equal(t, 200, a.status)
	require.Contains(t, a.json(t)["node_errors"], "9")
	id := a.json(t)["prompt_id"].(string)
	s.end(id)
	require.Equal(t, []any{"3"}, r.history(id)["prompt"].([]any)[4])

	only := r.submit(stepped(2, 1, 0.001, false), "a", M{"partial_execution_targets": []string{"3"}})
	s.end(only)
	none := r.do("POST", "/prompt", M{"prompt": json.RawMessage(graph), "partial_execution_targets": []string{"2"}})
	require.Equal(t, "prompt_no_outputs", none.json(t)["error"].(M)["type"])
}

func TestLiteralsAreCoerced(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	id, heard := r.run(s, `{"1":{"class_type":"EmptyImage","inputs":{"width":"32","height":16.9,"batch_size":true,"color":"0"}},
	"2":{"class_type":"GetImageSize","inputs":{"image":["1",0]}},"3":{"class_type":"PreviewAny","inputs":{"source":["2",0]}},
	"4":{"class_type":"PreviewAny","inputs":{"source":["2",1]}},"5":{"class_type":"PreviewAny","inputs":{"source":{"__value__":[1,2]}}}}`)
	require.Contains(t, heard, "execution_success")
	outputs := r.history(id)["outputs"].(M)
	require.Equal(t, `[{"text":["32"]},{"text":["16"]},{"text":["[1,2]"]}]`, compact([]any{outputs["3"], outputs["4"], outputs["5"]}))
}

func TestModelFilesAreLimitedOnlyWhenListed(t *testing.T) {
	const graph = `{"1":{"class_type":"VAELoader","inputs":{"vae_name":"mine.safetensors"}},"2":{"class_type":"PreviewAny","inputs":{"source":["1",0]}}}`
	r := start(t)
	r.history(r.submit(graph, ""))
	r = start(t, func(o *sim.Options) { o.Models = []string{"vae/other.safetensors"} })
	a := r.do("POST", "/prompt", M{"prompt": json.RawMessage(graph)})
	require.Equal(t, 400, a.status)
	require.Contains(t, string(a.body), `vae_name: 'mine.safetensors' not in ['other.safetensors']`)
	require.JSONEq(t, `["other.safetensors"]`, string(r.do("GET", "/models/vae", nil).body))
}

func TestDefinitionsDescribeEveryClass(t *testing.T) {
	r := start(t)
	all := r.do("GET", "/object_info", nil).json(t)
	require.Greater(t, len(all), 90)
	for name, entry := range all {
		e := entry.(M)
		require.Equal(t, name, e["name"])
		require.Len(t, e["output_name"], len(e["output"].([]any)), name)
		for group, order := range e["input_order"].(M) {
			require.Len(t, order, len(e["input"].(M)[group].(M)), name)
		}
	}
	one := r.do("GET", "/api/object_info/ImageScale", nil).json(t)["ImageScale"].(M)
	require.Equal(t, `["INT",{"default":512,"max":16384,"min":0,"step":1}]`, compact(one["input"].(M)["required"].(M)["width"]))
	require.Equal(t, M{}, r.do("GET", "/object_info/Nope", nil).json(t))
	_, known := r.do("GET", "/object_info/ShowText%7Cpysssss", nil).json(t)["ShowText|pysssss"]
	require.True(t, known)
}

// Whatever a client sends, the server answers and lives.
func FuzzPrompt(f *testing.F) {
	for _, seed := range []string{chain("a"), stepped(1, 1, 0.001, true), `{"1":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`, `[]`, `{"a":null}`,
		`{"1":{"class_type":"PreviewAny","inputs":{"source":["1",0]}}}`, `{"1":{"class_type":"EmptyImage","inputs":{"width":1e400}}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, graph string) {
		raw, err := json.Marshal(M{"prompt": json.RawMessage(graph)})
		if err != nil {
			t.Skip("not JSON")
		}
		s, err := sim.New(sim.Options{BaseDir: t.TempDir(), Speed: 1000})
		require.NoError(t, err)
		defer s.Close()
		require.Contains(t, []int{200, 400, 500}, serve(s, raw))
	})
}
