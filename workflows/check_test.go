package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verdict is what node_errors says: "node: type, type".
func verdict(t *testing.T, raw []byte) map[string][]string {
	t.Helper()
	var all map[string]struct {
		Errors []struct {
			Type      string         `json:"type"`
			Message   string         `json:"message"`
			Details   string         `json:"details"`
			ExtraInfo map[string]any `json:"extra_info"`
		} `json:"errors"`
		Dependent []string `json:"dependent_outputs"`
		Class     string   `json:"class_type"`
	}
	require.NoError(t, json.Unmarshal(raw, &all), string(raw))
	types := map[string][]string{}
	for id, n := range all {
		require.NotEmpty(t, n.Class)
		require.NotNil(t, n.Dependent)
		for _, e := range n.Errors {
			require.NotEmpty(t, e.Message)
			require.NotNil(t, e.ExtraInfo)
			types[id] = append(types[id], e.Type)
		}
	}
	return types
}

func TestCheckFindsWhatTheEngineWouldRefuse(t *testing.T) {
	scale := func(inputs string) string {
		return `{"1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
			"2": {"class_type": "ImageScale", "inputs": {` + inputs + `}, "_meta": {"title": "Upscale"}},
			"4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}}`
	}
	good := `"image": ["1", 0], "upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"`
	with := func(old, new string) string { return scale(strings.Replace(good, old, new, 1)) }
	for _, c := range []struct {
		what, graph, says string
		want              map[string][]string
	}{
		{"missing input", with(`"width": 64, `, ""), "width", map[string][]string{"2": {"required_input_missing"}}},
		{"value not in list", with(`"bilinear"`, `"bogus"`), "bogus", map[string][]string{"2": {"value_not_in_list"}}},
		{"too small and too big", with(`"width": 64, "height": 64`, `"width": -5, "height": 1000000000`), "smaller than min of 0", map[string][]string{"2": {"value_smaller_than_min", "value_bigger_than_max"}}},
		{"text for a number", with(`"width": 64`, `"width": "abc"`), "INT", map[string][]string{"2": {"invalid_input_type"}}},
		{"fraction as text for a whole number", with(`"width": 64`, `"width": "6.5"`), "INT", map[string][]string{"2": {"invalid_input_type"}}},
		{"null for a number", with(`"width": 64`, `"width": null`), "INT", map[string][]string{"2": {"invalid_input_type"}}},
		{"link to nowhere", with(`["1", 0]`, `["99", 0]`), `no node "99"`, map[string][]string{"2": {"bad_linked_input"}}},
		{"link to a missing slot", with(`["1", 0]`, `["1", 5]`), "2 outputs", map[string][]string{"2": {"bad_linked_input"}}},
		{"link of one element", with(`["1", 0]`, `["1"]`), "length-2", map[string][]string{"2": {"bad_linked_input"}}},
		{"link by number", with(`["1", 0]`, `[1, 0]`), "length-2", map[string][]string{"2": {"bad_linked_input"}}},
		{"link of the wrong type", with(`["1", 0]`, `["1", 1]`), "MASK", map[string][]string{"2": {"return_type_mismatch"}}},
		{"V3 choice", `{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}, "2": {"class_type": "ImageBlend", "inputs": {"image1": ["1", 0], "image2": ["1", 0], "blend_factor": 2, "blend_mode": "nope"}}, "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}}`,
			"nope", map[string][]string{"2": {"value_bigger_than_max", "value_not_in_list"}}},
		{"seed above 64 bits", `{"3": {"class_type": "NumberOrText", "inputs": {"value": ["5", 0]}}, "5": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551616}}}`,
			"18446744073709551615", nil},
		{"dangling link of an input that no definition lists", `{"3": {"class_type": "PreviewAny", "inputs": {"source": "x", "extra": ["77", 0]}}}`,
			`no node "77"`, map[string][]string{"3": {"bad_linked_input"}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := problem(t, Check(parse(t, c.graph), testDefs(t)), ErrNameInvalid)
			got := verdict(t, e.NodeErrors)
			if c.want != nil {
				require.Equal(t, c.want, got)
			}
			require.NotEmpty(t, e.Fields)
			require.Contains(t, e.Detail+fmt.Sprint(e.Fields), c.says)
		})
	}
}

func TestCheckNamesTheNodeAsItsAuthorDoes(t *testing.T) {
	g := parse(t, strings.Replace(simple, `"width": 64, `, "", 1))
	e := problem(t, Check(g, testDefs(t)), ErrNameInvalid)
	require.Contains(t, e.Detail, `node 2 "Upscale" (ImageScale)`)
	require.Equal(t, "workflow.2.inputs.width", e.Fields[0].Field)
	require.JSONEq(t, `{"2": {"errors": [{"type": "required_input_missing", "message": "Required input is missing", "details": "width",
		"extra_info": {"input_name": "width"}}], "dependent_outputs": ["4"], "class_type": "ImageScale"}}`, string(e.NodeErrors))
}

func TestCheckLetsPassWhatTheEngineAccepts(t *testing.T) {
	for what, graph := range map[string]string{
		"as exported": simple,
		"numbers as text, whole floats, booleans, extra keys": `{"1": {"class_type": "LoadImage", "inputs": {"image": "any.png", "upload": "image"}},
			"2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0.0], "upscale_method": "bilinear", "width": "64", "height": 64.7, "crop": "disabled", "unknown": 5}},
			"4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": 7}}}`,
		"a model this worker lacks": `{"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other.safetensors"}}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}`,
		"unions":                    `{"1": {"class_type": "PrimitiveInt", "inputs": {"value": 3}}, "2": {"class_type": "NumberOrText", "inputs": {"value": ["1", 0]}}}`,
		"inputs that grow":          `{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}, "2": {"class_type": "BatchImagesNode", "inputs": {"images.image0": ["1", 0]}}, "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": ""}}}`,
		"a custom node's choice":    `{"1": {"class_type": "CustomChoice", "inputs": {"mode": "c", "level": 1}}}`,
		"a list as a type":          `{"1": {"class_type": "CustomChoice", "inputs": {"mode": "a", "level": 1}}, "2": {"class_type": "ImageScale", "inputs": {"image": ["3", 0], "upscale_method": ["1", 0], "width": 1, "height": 1, "crop": "center"}}, "3": {"class_type": "LoadImage", "inputs": {"image": "x"}}, "4": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}}`,
		"a wrapped value":           `{"1": {"class_type": "PreviewAny", "inputs": {"source": {"__value__": [1, 2, 3]}}}}`,
		"a wrong node that nothing needs": strings.Replace(simple, `"4":`,
			`"8": {"class_type": "ImageInvert", "inputs": {}}, "9": {"class_type": "ImageInvert", "inputs": {"image": ["nowhere", 3]}}, "4":`, 1),
		"a loop that nothing needs": strings.Replace(simple, `"4":`,
			`"8": {"class_type": "ImageInvert", "inputs": {"image": ["9", 0]}}, "9": {"class_type": "ImageInvert", "inputs": {"image": ["8", 0]}}, "4":`, 1),
	} {
		t.Run(what, func(t *testing.T) { require.NoError(t, Check(parse(t, graph), testDefs(t))) })
	}
}

func TestCheckRefusesUnknownClassesEverywhere(t *testing.T) {
	g := parse(t, strings.Replace(simple, `"4":`, `"8": {"class_type": "NoSuchNode", "inputs": {}, "_meta": {"title": "My node"}}, "4":`, 1))
	e := problem(t, Check(g, testDefs(t)), ErrNameMissingType)
	require.Contains(t, e.Detail, `node 8 "My node" (NoSuchNode)`)
	require.Equal(t, map[string][]string{"8": {"missing_node_type"}}, verdict(t, e.NodeErrors))
	require.NoError(t, Check(g, nil), "without definitions nobody can know")
}

func TestCheckWantsAnOutput(t *testing.T) {
	g := parse(t, `{"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}`)
	problem(t, Check(g, testDefs(t)), ErrNameNoOutputs)
	require.NoError(t, Check(g, nil))
}

func TestCheckFindsLoops(t *testing.T) {
	graph := `{"1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}}, "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
		"3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}}}`
	for _, d := range []*Defs{nil, testDefs(t)} {
		e := problem(t, Check(parse(t, graph), d), ErrNameInvalid)
		require.Equal(t, map[string][]string{"1": {"dependency_cycle"}, "2": {"dependency_cycle"}}, verdict(t, e.NodeErrors))
		require.Contains(t, e.Detail, "2 (ImageInvert) -> 1 (ImageInvert) -> 2 (ImageInvert)")
	}
	alone := `{"1": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}}`
	problem(t, Check(parse(t, alone), nil), ErrNameInvalid)
}

func TestStructureIsCheckedWithoutDefinitions(t *testing.T) {
	require.NoError(t, Check(parse(t, simple), nil))
	e := problem(t, Check(parse(t, strings.Replace(simple, `["1", 0]`, `["99", 0]`, 1)), nil), ErrNameInvalid)
	require.Equal(t, map[string][]string{"2": {"bad_linked_input"}}, verdict(t, e.NodeErrors))
}

// A chain as long as a graph may be and as many errors as it may have: no stack is used up, and what is said is bounded.
// A check that took time by the square of them would not end within the test's limit.
func TestLongChainsAndWideErrorsAreBounded(t *testing.T) {
	var chain, wide []string
	for i := range MaxNodes {
		chain = append(chain, fmt.Sprintf(`"%d":{"class_type":"ImageInvert","inputs":{"image":["%d",0]}}`, i, (i+1)%MaxNodes))
		wide = append(wide, fmt.Sprintf(`"%d":{"class_type":"PreviewAny","inputs":{"source":["none",0]}}`, i))
	}
	d := testDefs(t)
	for _, nodes := range [][]string{chain, wide} {
		g := parse(t, "{"+strings.Join(nodes, ",")+"}")
		e := problem(t, Check(g, nil), ErrNameInvalid)
		require.LessOrEqual(t, len(verdict(t, e.NodeErrors)), maxNodeErrors)
		require.Less(t, len(e.Detail), 4000)
		require.Error(t, Check(g, d))
	}
}

func TestReachableLeavesOutWhatNoOutputNeeds(t *testing.T) {
	g := parse(t, strings.Replace(simple, `"4":`, `"8": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}, "4":`, 1))
	want := map[string]string{"1": "LoadImage", "2": "ImageScale", "4": "SaveImage"}
	require.Equal(t, want, g.Reachable(testDefs(t)))
	want["8"] = "ImageInvert"
	require.Equal(t, want, g.Reachable(nil), "any last node may be an output")
}

func BenchmarkParseAndCheck(b *testing.B) {
	var nodes []string
	for i := 0; len(strings.Join(nodes, ",")) < 60_000; i++ {
		nodes = append(nodes, fmt.Sprintf(`"%d": {"class_type": "ImageScale", "inputs": {"image": ["%d", 0], "upscale_method": "bilinear", "width": 64, "height": 64, "crop": "disabled"}, "_meta": {"title": "Upscale Image"}}`, i+2, i+1))
	}
	raw := `{"1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},` + strings.Join(nodes, ",") +
		fmt.Sprintf(`,"end": {"class_type": "SaveImage", "inputs": {"images": ["%d", 0], "filename_prefix": "x"}}}`, len(nodes)+1)
	d := testDefs(b)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		g, err := Parse([]byte(raw))
		if err == nil {
			err = Check(g, d)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
