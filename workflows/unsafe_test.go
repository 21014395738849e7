package workflows

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnsafeRefusesOtherJobsFiles(t *testing.T) {
	const uuid = "58e0c0c8-b8c2-413f-a3ac-9dc5ba940571"
	for _, c := range []struct{ class, field, value string }{
		{"LoadImage", "image", `"x.png [output]"`},
		{"LoadImage", "image", `"x.png[temp]"`},
		{"LoadImage", "image", `"x [Output] "`},
		{"LoadImage", "image", `"../output/x.png"`},
		{"LoadImage", "image", `"a/../../x.png"`},
		{"LoadImage", "image", `"..\\output\\x.png"`},
		{"LoadImage", "image", `".."`},
		{"LoadImage", "image", `"/etc/passwd"`},
		{"LoadImage", "image", `"\u002fetc/passwd"`},
		{"LoadImage", "image", `"C:\\Users\\me\\x.png"`},
		{"LoadImage", "image", `"\\\\server\\share\\x.png"`},
		{"LoadImage", "image", `"` + uuid + `/0.png"`},
		{"LoadImage", "image", `"sub\\` + strings.ToUpper(uuid) + `\\0.png"`},
		{"LoadImage", "image", `["2", 0]`},
		{"LoadImage", "image", `{"__value__": "x.png [output]"}`},
		{"LoadVideo", "file", `["2", 0]`},
		{"VHS_LoadVideoPath", "video", `"~/x.mp4"`},
		{"AnyLoader", "url", `"file:///etc/passwd"`},
		{"AnyLoader", "paths", `{"__value__": ["ok.png", ["/etc/passwd"]]}`},
		{"AnyLoader", "path", `"/my folder/a picture.png"`},
		{"PrimitiveString", "value", `"/etc/passwd"`},
		{"PrimitiveString", "value", `"x.png [output]"`},
		{"PrimitiveStringMultiline", "value", `"/etc/passwd"`},
		{"CLIPTextEncode", "text", `"` + uuid + `/0.png"`},
		{"CLIPTextEncode", "text", `"photo.png [output]"`},
	} {
		t.Run(c.class+" "+c.value, func(t *testing.T) {
			g := parse(t, `{"7": {"class_type": "`+c.class+`", "inputs": {"`+c.field+`": `+c.value+`}}, "2": {"class_type": "A", "inputs": {}}}`)
			e := problem(t, g.Unsafe(nil), ErrNameUnsafe)
			require.Equal(t, "workflow.7.inputs."+c.field, e.Fields[0].Field)
		})
	}
}

func TestUnsafeLetsPassWordsModelsAndOwnMedia(t *testing.T) {
	for _, c := range []struct{ class, field, value string }{
		{"LoadImage", "image", `"107.png"`},
		{"LoadImage", "image", `"sub/107.png"`},
		{"LoadImage", "image", `"C:\\Users\\me\\x.png"`},
		{"LoadImage", "image", `"/home/me/x.png"`},
		{"LoadImage", "image", `"odd.png [output]"`},
		{"CheckpointLoaderSimple", "ckpt_name", `"sdxl/base_1.0.safetensors"`},
		{"LoraLoader", "lora_name", `"Wan2.2\\high..v2.safetensors"`},
		{"CLIPTextEncode", "text", `"/imagine a cat.. and/or a dog [masterpiece]"`},
		{"CLIPTextEncode", "text", `"one, two\n/etc is not a path here\n.."`},
		{"PrimitiveStringMultiline", "value", `"/imagine a cat, 8k/4k, output [input]"`},
		{"PrimitiveString", "value", `"/imagine a cat"`},
		{"StringConcatenate", "delimiter", `"/"`},
		{"AnyNode", "scale", `"1/2"`},
		{"AnyNode", "sharpness", `"...",  "numbers": [["a"]], "on": true`},
		{"SaveImage", "filename_prefix", `"../../x"`},
	} {
		t.Run(c.class+" "+c.value, func(t *testing.T) {
			g := parse(t, `{"7": {"class_type": "`+c.class+`", "inputs": {"`+c.field+`": `+c.value+`}}}`)
			require.NoError(t, g.Unsafe([]string{`C:\Users\me\x.png`, "/home/me/x.png", "odd.png [output]"}))
		})
	}
}

func TestAMediaNameDoesNotExcuseText(t *testing.T) {
	g := parse(t, `{"7": {"class_type": "CLIPTextEncode", "inputs": {"text": "/etc/passwd"}}}`)
	problem(t, g.Unsafe([]string{"/etc/passwd"}), ErrNameUnsafe)
}

func TestUnsafeNamesAtMostAFewFields(t *testing.T) {
	nodes := make([]string, 40)
	for i := range nodes {
		nodes[i] = fmt.Sprintf(`"%d": {"class_type": "A", "inputs": {"p": "/etc/passwd"}}`, i)
	}
	g := parse(t, "{"+strings.Join(nodes, ",")+"}")
	require.Len(t, problem(t, g.Unsafe(nil), ErrNameUnsafe).Fields, maxUnsafe)
}
