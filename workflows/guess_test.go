package workflows

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// keys lists parameters as "key=node.field,node.field".
func keys(params []Param) []string {
	var list []string
	for _, p := range params {
		targets := make([]string, len(p.Targets))
		for i, t := range p.Targets {
			targets[i] = t.Node + "." + t.Field
		}
		list = append(list, p.Key+"="+strings.Join(targets, ","))
	}
	return list
}

const drawing = `{
  "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
  "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
  "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["4", 1]}, "_meta": {"title": "What to draw"}},
  "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "one.safetensors"}},
  "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
  "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 7, "sampler_name": "euler", "scheduler": "karras", "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
  "10": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 10, "cfg": 7, "sampler_name": "euler", "scheduler": "karras", "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["3", 0]}, "_meta": {"title": "Refine"}},
  "8": {"class_type": "VAEDecode", "inputs": {"samples": ["10", 0], "vae": ["4", 2]}}}`

func TestGuessRanksPromptsFirstAndMergesWhatIsShared(t *testing.T) {
	g := parse(t, drawing)
	params := Guess(g, testDefs(t))
	require.Equal(t, []string{
		"prompt=6.text", "negative_prompt=7.text", "seed=3.seed,10.seed", "width=5.width", "height=5.height", "batch_size=5.batch_size",
		"steps=3.steps", "steps_10=10.steps", "cfg=3.cfg,10.cfg", "denoise=3.denoise", "denoise_10=10.denoise",
		"sampler_name=3.sampler_name", "scheduler=3.scheduler", "sampler_name_10=10.sampler_name", "scheduler_10=10.scheduler",
		"ckpt_name=4.ckpt_name",
	}, keys(params))
	require.NoError(t, CheckParams(g, params))
	require.Equal(t, TypeText, params[0].Type)
	require.Equal(t, "18446744073709551615", string(params[2].Max))
	require.Equal(t, []string{"euler", "dpmpp_2m"}, params[11].Options)
	require.Equal(t, "Refine: steps", params[7].Label)
	require.Equal(t, TypeNumber, params[8].Type, "cfg 7 may become 7.5")
	jsonSchema(t, params)
	_, err := Bind(g, params, values(t, `{"prompt": "x", "seed": 1, "cfg": 7.5}`))
	require.NoError(t, err)
}

func TestGuessWorksWithoutDefinitions(t *testing.T) {
	params := Guess(parse(t, drawing), nil)
	require.Equal(t, []string{"prompt=6.text", "negative_prompt=7.text", "seed=3.seed,10.seed"}, keys(params)[:3])
	require.Equal(t, TypeNumber, params[8].Type, "%v", params[8])
}

func TestGuessKeysDoNotDependOnTheOrderOfTheFile(t *testing.T) {
	g := parse(t, drawing)
	turned := g.Clone()
	for i, j := 0, len(turned.nodes)-1; i < j; i, j = i+1, j-1 {
		turned.nodes[i], turned.nodes[j] = turned.nodes[j], turned.nodes[i]
	}
	require.Equal(t, keys(Guess(g, nil)), keys(Guess(turned, nil)))
}

func TestGuessFindsMediaAndLeavesOutLinks(t *testing.T) {
	g := parse(t, `{
		"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
		"2": {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "red"}},
		"3": {"class_type": "LoadVideo", "inputs": {"file": "v.mp4"}},
		"4": {"class_type": "LoadAudio", "inputs": {"audio": "s.flac"}},
		"5": {"class_type": "PrimitiveInt", "inputs": {"value": 3}},
		"6": {"class_type": "ImageScale", "inputs": {"width": ["5", 0], "height": 64, "image": ["1", 0]}},
		"7": {"class_type": "PreviewAny", "inputs": {"source": ["6", 0], "b": ["2", 0], "c": ["3", 0], "d": ["4", 0]}},
		"8": {"class_type": "WanVideoTextEncode", "inputs": {"positive_prompt": "p", "negative_prompt": "n", "t5": ["5", 0]}},
		"9": {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}}}`)
	require.Equal(t, []string{"prompt=8.positive_prompt", "negative_prompt=8.negative_prompt", "image=1.image", "mask=2.image", "video=3.file", "audio=4.audio",
		"value=5.value", "height=6.height"}, keys(Guess(g, nil)))
}

func TestGuessSeesThroughZeroedConditioning(t *testing.T) {
	g := parse(t, `{
		"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse"}},
		"7": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}},
		"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}}}`)
	require.Equal(t, []string{"prompt=6.text"}, keys(Guess(g, nil)))
}

func TestGuessIsBounded(t *testing.T) {
	nodes := make([]string, 300)
	for i := range nodes {
		nodes[i] = strings.ReplaceAll(`"#": {"class_type": "CLIPTextEncode", "inputs": {"text": "t#", "seed": #}}`, "#", string(rune('1'+i%9))+strings.Repeat("0", i/9))
	}
	params := Guess(parse(t, "{"+strings.Join(nodes, ",")+"}"), nil)
	require.Len(t, params, maxGuesses)
}

// TestRealExports tries graphs and node definitions as the real editor and server write them; COMFYFLEET_EXAMPLES is a
// directory with workflows/pairs/*_api.json and comfyui/object_info.json.
func TestRealExports(t *testing.T) {
	dir := os.Getenv("COMFYFLEET_EXAMPLES")
	if dir == "" {
		t.Skip("COMFYFLEET_EXAMPLES names no directory of real exports")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "comfyui", "object_info.json"))
	require.NoError(t, err)
	d, err := ParseDefs(raw)
	require.NoError(t, err)
	require.Greater(t, len(d.classes), 500)
	files, err := filepath.Glob(filepath.Join(dir, "workflows", "pairs", "*_api.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			g := parse(t, string(raw))
			require.NoError(t, Check(g, d))
			require.NoError(t, g.Unsafe(nil))
			require.NotEmpty(t, g.ModelFiles(d))
			params := Guess(g, d)
			require.Equal(t, "prompt", params[0].Key)
			require.NoError(t, CheckParams(g, params))
			jsonSchema(t, params)
			t.Log(strings.Join(keys(params), " "))
		})
	}
	editor, err := filepath.Glob(filepath.Join(dir, "workflows", "editor", "*.json"))
	require.NoError(t, err)
	for _, file := range editor {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		_, err = Parse(raw)
		problem(t, err, ErrNameEditorFormat)
	}
}
