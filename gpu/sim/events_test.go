package sim_test

import (
	"encoding/binary"
	"encoding/json"
	"image/jpeg"
	"maps"
	"slices"

	"bytes"
	"comfyfleet/gpu/sim"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var tempName = regexp.MustCompile(`ComfyUI_temp_[a-z]{5}`)

// picture is a PNG with a gradient.
func picture(t testing.TB, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(x * 255 / w), uint8(y * 255 / h), 40, 255})
		}
	}
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, img))
	return buf.Bytes()
}

// upload posts a file under the very name given, with more form fields.
func (r *rig) upload(route, name string, data []byte, fields ...string) answer {
	r.t.Helper()
	var buf bytes.Buffer
	form := multipart.NewWriter(&buf)
	part, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="image"; filename="%s"`, name)}})
	require.NoError(r.t, err)
	_, err = part.Write(data)
	require.NoError(r.t, err)
	for i := 0; i+1 < len(fields); i += 2 {
		require.NoError(r.t, form.WriteField(fields[i], fields[i+1]))
	}
	require.NoError(r.t, form.Close())
	req, err := http.NewRequest("POST", r.base+route, &buf)
	require.NoError(r.t, err)
	req.Header.Set("Content-Type", form.FormDataContentType())
	return r.send(req)
}

// chain is the graph of the first recorded scenario: load, scale, invert, save.
func chain(prefix string) string {
	return `{"1":{"class_type":"LoadImage","inputs":{"image":"in.png"},"_meta":{"title":"Load"}},
	"2":{"class_type":"ImageScale","inputs":{"image":["1",0],"upscale_method":"bilinear","width":128,"height":96,"crop":"disabled"}},
	"3":{"class_type":"ImageInvert","inputs":{"image":["2",0]}},
	"4":{"class_type":"SaveImage","inputs":{"images":["3",0],"filename_prefix":"` + prefix + `"}}}`
}

// stepped is an image, so many steps, and a save.
func stepped(colour, steps int, delay float64, preview bool) string {
	return fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":48,"batch_size":1,"color":%d}},
	"2":{"class_type":"SimSteps","inputs":{"image":["1",0],"steps":%d,"delay":%g,"preview":%t,"seed":1}},
	"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"t/steps"}}}`, colour, steps, delay, preview)
}

func TestASimpleRunThenCachedThenPartlyCached(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "in.png", picture(t, 96, 64)).status)
	a, other := r.dial("a"), r.dial("b")
	var text strings.Builder
	for _, run := range []struct{ name, prefix string }{{"simple", "t/simple"}, {"cached", "t/simple"}, {"partly cached", "t/other"}} {
		id := r.submit(chain(run.prefix), "a")
		a.end(id)
		fmt.Fprintf(&text, "# %s\n%s\n", run.name, strings.Join(lines(a.of(id)), "\n"))
	}
	golden(t, "simple_cached_partly", text.String())
	for _, g := range other.messages() {
		require.Equal(t, "status", g.kind, "another client hears of the queue only")
	}
}

// run submits a graph for a socket's client, waits for its end and returns what the socket heard of it.
func (r *rig) run(s *socket, graph string, more ...M) (id string, heard []string) {
	r.t.Helper()
	id = r.submit(graph, s.id, more...)
	s.end(id)
	return id, lines(s.of(id))
}

func TestPreviewsComeAfterProgressWithoutMetadataAndBeforeItWith(t *testing.T) {
	r := start(t)
	_, legacy := r.run(r.dial("old"), stepped(1, 2, 0.001, true))
	s := r.dial("new", flagsMessage)
	_, modern := r.run(s, stepped(2, 2, 0.001, true))
	golden(t, "previews", "# legacy\n"+strings.Join(legacy, "\n")+"\n# metadata\n"+strings.Join(modern, "\n")+"\n")

	frame := s.wait("preview", func(g got) bool { return g.kind == "binary:4" }).raw
	n := binary.BigEndian.Uint32(frame[4:])
	var meta M
	require.NoError(t, json.Unmarshal(frame[8:8+n], &meta))
	require.Equal(t, []any{"2", "2", nil, "2", "image/jpeg"},
		[]any{meta["node_id"], meta["display_node_id"], meta["parent_node_id"], meta["real_node_id"], meta["image_type"]})
	_, err := jpeg.Decode(bytes.NewReader(frame[8+n:]))
	require.NoError(t, err)
}

func TestSamplerPreviewsObeyThePromptBeforeTheFlag(t *testing.T) {
	sample := func(seed int) string {
		return fmt.Sprintf(`{"1":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"x.safetensors"}},
		"2":{"class_type":"CLIPTextEncode","inputs":{"text":"dunes","clip":["1",1]}},
		"3":{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":64,"batch_size":1}},
		"4":{"class_type":"KSampler","inputs":{"model":["1",0],"seed":%d,"steps":3,"cfg":7,"sampler_name":"euler","scheduler":"normal","positive":["2",0],"negative":["2",0],"latent_image":["3",0],"denoise":1}},
		"5":{"class_type":"VAEDecode","inputs":{"samples":["4",0],"vae":["1",2]}},
		"6":{"class_type":"SaveImage","inputs":{"images":["5",0],"filename_prefix":"s"}}}`, seed)
	}
	for i, c := range []struct {
		server, prompt string
		want           bool
	}{{"none", "", false}, {"none", "auto", true}, {"auto", "", true}, {"auto", "none", false}, {"none", "default", false}} {
		r := start(t, func(o *sim.Options) { o.Previews = c.server })
		s := r.dial("a")
		_, heard := r.run(s, sample(i), M{"extra_data": M{"preview_method": c.prompt}})
		require.Equal(t, c.want, strings.Contains(strings.Join(heard, " "), "binary:1"), "%+v", c)
	}
}

func TestWithoutAClientIDProgressLeaksToEverybody(t *testing.T) {
	r := start(t)
	x := r.dial("x")
	id := r.submit(stepped(1, 2, 0.001, true), "")
	r.history(id)
	x.wait("the end of the queue", func(g got) bool { return line(g) == "status 0" })
	require.Equal(t, []string{"status", "progress_state", "progress", "binary:1", "progress_state", "progress", "binary:1", "progress_state", "status"},
		kinds(x.messages()))
}

func TestAnExceptionEndsThePrompt(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	raise := `{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":7}},
	"2":{"class_type":"SimRaise","inputs":{"image":["1",0],"kind":"ValueError","message":"the bridge fell"}},
	"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"t/x"}}}`
	id, heard := r.run(s, raise)
	oom := strings.Replace(raise, `"SimRaise","inputs":{"image":["1",0],"kind":"ValueError","message":"the bridge fell"}`, `"SimOOM","inputs":{"image":["1",0]}`, 1)
	oomID, second := r.run(s, oom)
	golden(t, "exceptions", "# exception\n"+strings.Join(heard, "\n")+"\n# out of memory\n"+strings.Join(second, "\n")+"\n")

	entry := r.history(id)
	require.Equal(t, M{}, entry["outputs"])
	require.Equal(t, "error", entry["status"].(M)["status_str"])
	require.Equal(t, false, entry["status"].(M)["completed"])
	last := entry["status"].(M)["messages"].([]any)[2].([]any)
	require.Equal(t, "execution_error", last[0])
	require.Equal(t, []any{"ValueError"}, last[1].(M)["current_inputs"].(M)["kind"])
	require.NotEmpty(t, last[1].(M)["traceback"])
	require.Equal(t, "failed", r.do("GET", "/api/jobs/"+id, nil).json(t)["status"])

	require.NotEqual(t, id, oomID)
	again, heard := r.run(s, oom)
	require.Contains(t, heard, "execution_success", "the second time it has memory: times is 1 (%s)", again)
}

func TestExpansionBlockersAndLists(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	const empty = `"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":1,"color":1}}`
	save := func(id, from, prefix string) string {
		return fmt.Sprintf(`%q:{"class_type":"SaveImage","inputs":{"images":[%q,0],"filename_prefix":"t/%s"}}`, id, from, prefix)
	}
	var text strings.Builder
	for _, c := range []struct{ name, graph string }{
		{"expansion", "{" + empty + `,"2":{"class_type":"SimExpand","inputs":{"image":["1",0],"steps":1,"delay":0.001}},` + save("3", "2", "sp") + "}"},
		{"blocker", "{" + empty + `,"2":{"class_type":"SimBlocker","inputs":{"image":["1",0],"message":"the gate is shut"}},` + save("3", "2", "sp") + "," + save("4", "1", "after") + "}"},
		{"silent blocker", "{" + empty + `,"2":{"class_type":"SimBlocker","inputs":{"image":["1",0],"message":""}},` + save("3", "2", "sp") + "," + save("4", "1", "after2") + "}"},
		{"list", "{" + empty + `,"2":{"class_type":"SimList","inputs":{"image":["1",0],"count":3}},` + save("3", "2", "list") + "}"},
	} {
		id, heard := r.run(s, c.graph)
		fmt.Fprintf(&text, "# %s\n%s\nmeta %s\n", c.name, strings.Join(heard, "\n"), compact(r.history(id)["meta"]))
	}
	golden(t, "expansion_blockers_lists", text.String())
}

func TestOutputKinds(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	var text strings.Builder
	for _, c := range []struct{ name, graph string }{
		{"batch and animation", `{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":3,"color":77}},
			"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"t/batch"}},
			"3":{"class_type":"SaveAnimatedPNG","inputs":{"images":["1",0],"filename_prefix":"t/anim","fps":6,"compress_level":4}}}`},
		{"video", `{"1":{"class_type":"EmptyImage","inputs":{"width":32,"height":32,"batch_size":3,"color":77}},
			"2":{"class_type":"CreateVideo","inputs":{"images":["1",0],"fps":8}},
			"3":{"class_type":"SaveVideo","inputs":{"video":["2",0],"filename_prefix":"video/x","format":"mp4","codec":"h264"}},
			"4":{"class_type":"VHS_VideoCombine","inputs":{"images":["1",0],"frame_rate":8,"loop_count":0,"filename_prefix":"vhs","format":"image/gif","pingpong":true,"save_output":true}}}`},
		{"masks", `{"1":{"class_type":"SolidMask","inputs":{"value":0.5,"width":64,"height":48}},"2":{"class_type":"MaskToImage","inputs":{"mask":["1",0]}},
			"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}},"4":{"class_type":"MaskPreview","inputs":{"mask":["1",0]}}}`},
		{"text", `{"1":{"class_type":"PrimitiveString","inputs":{"value":"a b c"}},
			"2":{"class_type":"StringConcatenate","inputs":{"string_a":["1",0],"string_b":"!","delimiter":"-"}},
			"3":{"class_type":"PreviewAny","inputs":{"source":["2",0]}},"4":{"class_type":"ShowText|pysssss","inputs":{"text":["2",0]}},
			"5":{"class_type":"SaveText","inputs":{"text":["2",0],"filename_prefix":"t/text","format":"txt"}}}`},
		{"audio", `{"1":{"class_type":"EmptyAudio","inputs":{"duration":0.5,"sample_rate":8000,"channels":1}},
			"2":{"class_type":"SaveAudio","inputs":{"audio":["1",0],"filename_prefix":"audio/x"}}}`},
		{"custom keys", `{"1":{"class_type":"SimOutput","inputs":{"kind":"videos","count":2,"bytes":10,"filename_prefix":"v/a","seed":1}},
			"2":{"class_type":"SimOutput","inputs":{"kind":"3d","count":1,"bytes":10,"filename_prefix":"v/b","seed":1}},
			"3":{"class_type":"SimOutput","inputs":{"kind":"text","count":1,"bytes":0,"filename_prefix":"v/c","seed":1}}}`},
	} {
		id, _ := r.run(s, c.graph)
		outputs := r.history(id)["outputs"].(M)
		fmt.Fprintf(&text, "# %s\n", c.name)
		for _, node := range slices.Sorted(maps.Keys(outputs)) {
			fmt.Fprintf(&text, "%s %s\n", node, strings.ReplaceAll(compact(outputs[node]), r.sim.OutputDir(), "OUTPUT"))
		}
	}
	golden(t, "output_kinds", text.String())
}
