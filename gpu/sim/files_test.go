package sim_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"comfyfleet/gpu/sim"

	"github.com/stretchr/testify/require"
)

// serve posts a prompt without a network and returns the status.
func serve(s *sim.Server, body []byte) int {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/prompt", bytes.NewReader(body)))
	return w.Code
}

func TestUploadsLandWhereComfyUIPutsThem(t *testing.T) {
	r := start(t)
	one, other := picture(t, 96, 64), picture(t, 64, 64)
	for _, c := range []struct {
		what, file string
		data       []byte
		fields     []string
		status     int
		answer     string
	}{
		{"first", "u.png", one, nil, 200, `{"name":"u.png","subfolder":"","type":"input"}`},
		{"same content", "u.png", one, nil, 200, `{"name":"u.png","subfolder":"","type":"input"}`},
		{"other content", "u.png", other, nil, 200, `{"name":"u (1).png","subfolder":"","type":"input"}`},
		{"overwrite", "u.png", other, []string{"overwrite", "true"}, 200, `{"name":"u.png","subfolder":"","type":"input"}`},
		{"subfolder", "u.png", one, []string{"subfolder", "tenants/t1"}, 200, `{"name":"u.png","subfolder":"tenants/t1","type":"input"}`},
		{"temp", "u.png", one, []string{"type", "temp", "subfolder", "x", "overwrite", "1"}, 200, `{"name":"u.png","subfolder":"x","type":"temp"}`},
		{"output", "o.png", one, []string{"type", "output"}, 200, `{"name":"o.png","subfolder":"","type":"output"}`},
		{"escape by name", "../evil.png", one, nil, 400, ""},
		{"into a missing directory", "sub/inner.png", one, nil, 500, ""},
		{"escape by subfolder", "e.png", one, []string{"subfolder", "../../x"}, 400, ""},
		{"absolute subfolder", "e.png", one, []string{"subfolder", "/etc"}, 400, ""},
		{"out and back", "../input/back.png", one, nil, 200, `{"name":"../input/back.png","subfolder":"","type":"input"}`},
		{"another directory", "../temp/x2.png", one, nil, 400, ""},
		{"dots inside a subfolder", "x.png", one, []string{"subfolder", "a/../b"}, 200, `{"name":"x.png","subfolder":"a/../b","type":"input"}`},
		{"dots alone", "..", one, nil, 400, ""},
		{"odd characters", "con:fig?.png", one, nil, 200, `{"name":"con:fig?.png","subfolder":"","type":"input"}`},
		{"accents", "ünïcode name.png", one, nil, 200, `{"name":"ünïcode name.png","subfolder":"","type":"input"}`},
		{"no picture", "note.txt", []byte("hello"), nil, 200, `{"name":"note.txt","subfolder":"","type":"input"}`},
		{"bad type", "e.png", one, []string{"type", "bogus"}, 500, ""},
	} {
		a := r.upload("/upload/image", c.file, c.data, c.fields...)
		require.Equal(t, c.status, a.status, c.what)
		if c.answer != "" {
			require.JSONEq(t, c.answer, string(a.body), c.what)
		}
	}
	saved, err := os.ReadFile(filepath.Join(r.sim.InputDir(), "tenants/t1/u.png"))
	require.NoError(t, err)
	require.Equal(t, one, saved)

	s := r.dial("a")
	for _, name := range []string{"tenants/t1/u.png", "u.png [input]", "x/u.png [temp]", "o.png [output]", "u (1).png", "tenants/../u.png"} {
		_, heard := r.run(s, `{"1":{"class_type":"LoadImage","inputs":{"image":"`+name+`"}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`)
		require.Contains(t, heard, "execution_success", name)
	}
	_, heard := r.run(s, `{"1":{"class_type":"LoadImage","inputs":{"image":"note.txt"}},"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`)
	require.Contains(t, strings.Join(heard, "\n"), "execution_error 1 LoadImage PIL.UnidentifiedImageError")
}

func TestAMaskUploadReplacesTheAlpha(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "base.png", picture(t, 32, 32)).status)
	clear := image.NewNRGBA(image.Rect(0, 0, 32, 32)) // fully transparent
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, clear))
	a := r.upload("/upload/mask", "mask.png", buf.Bytes(), "original_ref", `{"filename":"base.png","type":"input"}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	raw, err := os.ReadFile(filepath.Join(r.sim.InputDir(), "mask.png"))
	require.NoError(t, err)
	img, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Zero(t, img.(*image.NRGBA).NRGBAAt(16, 16).A)
	require.NotZero(t, img.(*image.NRGBA).NRGBAAt(31, 16).R, "the colours are the original's")
	require.Equal(t, 400, r.upload("/upload/mask", "m.png", buf.Bytes(), "original_ref", `{"filename":"../x.png"}`).status)
}

func TestViewServesOnlyItsDirectories(t *testing.T) {
	r := start(t)
	data := picture(t, 96, 64)
	require.Equal(t, 200, r.upload("/upload/image", "u.png", data).status)
	require.Equal(t, 200, r.upload("/upload/image", "page.html", []byte("<script>")).status)
	require.NoError(t, os.MkdirAll(filepath.Join(r.sim.OutputDir(), "v"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(r.sim.OutputDir(), "v", "a.mp4"), bytes.Repeat([]byte("x"), 1000), 0o644))
	for query, status := range map[string]int{
		"filename=u.png&type=input": 200, "filename=u.png%20[input]": 200, "filename=tenants/u.png&type=input": 200,
		"filename=a.mp4&subfolder=v": 200, "filename=a.mp4": 404, "filename=nope.png": 404, "": 404, "filename=": 400, "filename=../x.png&type=input": 400,
		"filename=/etc/passwd": 400, "filename=x.png&subfolder=../../..": 403, "filename=u.png&type=bogus": 400, "filename=v": 404,
	} {
		require.Equal(t, status, r.do("GET", "/view?"+query, nil).status, query)
	}
	a := r.do("GET", "/api/view?filename=u.png&type=input", nil)
	require.Equal(t, data, a.body)
	require.Equal(t, "image/png", a.header.Get("Content-Type"))
	require.Equal(t, `filename="u.png"`, a.header.Get("Content-Disposition"))
	require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	require.NotEmpty(t, a.header.Get("ETag"))
	require.Equal(t, "application/octet-stream", r.do("GET", "/view?filename=page.html&type=input", nil).header.Get("Content-Type"))

	req, err := http.NewRequest("GET", r.base+"/view?filename=a.mp4&subfolder=v", nil)
	require.NoError(t, err)
	req.Header.Set("Range", "bytes=100-199")
	part := r.send(req)
	require.Equal(t, []any{206, "bytes 100-199/1000", "video/mp4", 100}, []any{part.status, part.header.Get("Content-Range"), part.header.Get("Content-Type"), len(part.body)})

	preview := r.do("GET", "/view?filename=u.png&type=input&preview=jpeg;50", nil)
	_, err = jpeg.Decode(bytes.NewReader(preview.body))
	require.NoError(t, err)
	require.Equal(t, "image/png", r.do("GET", "/view?filename=u.png&type=input&channel=a", nil).header.Get("Content-Type"))
}

func TestFilenamePrefixes(t *testing.T) {
	r := start(t)
	s := r.dial("a")
	save := func(prefix string) string {
		id, heard := r.run(s, `{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"`+prefix+`"}}}`)
		if out := r.history(id)["outputs"].(M)["2"]; out != nil {
			file := out.(M)["images"].([]any)[0].(M)
			return file["subfolder"].(string) + "|" + file["filename"].(string)
		}
		return heard[len(heard)-3]
	}
	require.Equal(t, "a/b|c_00001_.png", save("a/b/c"))
	require.Equal(t, "|x_16x8_00001_.png", save("x_%width%x%height%"))
	require.Equal(t, "|per0_00001_.png", save("per%batch_num%"))
	require.Equal(t, "with space|ü_00001_.png", save("with space/ü"))
	require.Equal(t, "|trail_00001_.png", save("trail/"))
	for _, bad := range []string{"../escape", "/abs/olute", "a/../../b"} {
		require.Contains(t, save(bad), "execution_error 2 SaveImage Exception", bad)
	}
	require.NoFileExists(t, filepath.Join(filepath.Dir(r.sim.OutputDir()), "escape_00001_.png"))
	require.NoError(t, os.WriteFile(filepath.Join(r.sim.OutputDir(), "n_00041_.png"), nil, 0o644))
	require.Equal(t, "|n_00042_.png", save("n"))
}

// textChunks are the tEXt chunks of a PNG.
func textChunks(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for raw = raw[8:]; len(raw) >= 12; {
		n := binary.BigEndian.Uint32(raw)
		if string(raw[4:8]) == "tEXt" {
			key, value, _ := strings.Cut(string(raw[8:8+n]), "\x00")
			out[key] = value
		}
		raw = raw[12+n:]
	}
	return out
}

func TestPicturesCarryTheGraphUnlessToldOtherwise(t *testing.T) {
	const graph = `{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"ü"}}}`
	extra := M{"extra_data": M{"extra_pnginfo": M{"workflow": M{"id": "w"}, "tenant": "t1"}, "secret": "s", "api_key_comfy_org": "k"}}
	for _, off := range []bool{false, true} {
		r := start(t, func(o *sim.Options) { o.DisableMetadata = off })
		id := r.submit(graph, "", extra)
		shown := r.history(id)["prompt"].([]any)[3].(M)
		require.Equal(t, "s", shown["secret"])
		require.NotContains(t, shown, "api_key_comfy_org")
		raw, err := os.ReadFile(filepath.Join(r.sim.OutputDir(), "ü_00001_.png"))
		require.NoError(t, err)
		_, err = png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		chunks := textChunks(t, raw)
		if off {
			require.Empty(t, chunks)
			continue
		}
		require.Equal(t, `{"id":"w"}`, chunks["workflow"])
		require.Equal(t, `"t1"`, chunks["tenant"])
		require.Contains(t, chunks["prompt"], `"filename_prefix":"\u00fc"`)
	}
}

func TestBodiesHaveALimit(t *testing.T) {
	r := start(t, func(o *sim.Options) { o.MaxUpload = 10_000 })
	a := r.do("POST", "/prompt", strings.Repeat(" ", 10_001))
	require.Equal(t, 413, a.status)
	require.Equal(t, "Maximum request body size 10000 exceeded, actual body size 10001", string(a.body))
	require.Equal(t, 413, r.upload("/upload/image", "x.bin", make([]byte, 11_000)).status)
	req, err := http.NewRequest("POST", r.base+"/prompt", struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 10_001))})
	require.NoError(t, err)
	req.ContentLength = -1
	require.Equal(t, 413, r.send(req).status, "chunked")
}

func TestForeignOriginsAreRefused(t *testing.T) {
	r := start(t)
	for header, value := range map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"} {
		req, err := http.NewRequest("GET", r.base+"/queue", nil)
		require.NoError(t, err)
		req.Header.Set(header, value)
		require.Equal(t, 403, r.send(req).status, header)
	}
}
