package sim_test

import (
	"bytes"
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
func picture(t *testing.T, w, h int) []byte {
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
