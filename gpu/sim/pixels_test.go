package sim_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// quarters is a 4x2 picture: red, green, blue, white above and their opposites below.
func quarters(t *testing.T) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 4, 2))
	for x, c := range []color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 0}} {
		img.SetNRGBA(x, 0, c)
		img.SetNRGBA(x, 1, color.NRGBA{255 - c.R, 255 - c.G, 255 - c.B, 255})
	}
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, img))
	return buf.Bytes()
}

// result runs nodes on the picture (node 1) and returns what node 9, an IMAGE, holds.
func (r *rig) result(nodes string) image.Image {
	r.t.Helper()
	id := r.submit(`{"1":{"class_type":"LoadImage","inputs":{"image":"q.png"}},`+nodes+`,"99":{"class_type":"SaveImage","inputs":{"images":["9",0],"filename_prefix":"p"}}}`, "")
	h := r.history(id)
	out, ok := h["outputs"].(M)["99"].(M)
	require.True(r.t, ok, compact(h["status"]))
	name := out["images"].([]any)[0].(M)["filename"].(string)
	raw, err := os.ReadFile(filepath.Join(r.sim.OutputDir(), name))
	require.NoError(r.t, err)
	img, err := png.Decode(bytes.NewReader(raw))
	require.NoError(r.t, err)
	return img
}

// show writes a picture as rows of RRGGBB.
func show(img image.Image) string {
	var rows []string
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		var row []string
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			row = append(row, fmt.Sprintf("%02x%02x%02x", r>>8, g>>8, b>>8))
		}
		rows = append(rows, strings.Join(row, " "))
	}
	return strings.Join(rows, "|")
}

func TestPictureNodesDoRealWork(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "q.png", quarters(t)).status)
	node := func(class, inputs string) string {
		return fmt.Sprintf(`"9":{"class_type":%q,"inputs":{%s}}`, class, inputs)
	}
	const in = `"image":["1",0]`
	for _, c := range []struct{ name, nodes, want string }{
		{"invert", node("ImageInvert", in), "00ffff ff00ff ffff00 000000|ff0000 00ff00 0000ff ffffff"},
		{"flip", node("ImageFlip", in+`,"flip_method":"y-axis: horizontally"`), "ffffff 0000ff 00ff00 ff0000|000000 ffff00 ff00ff 00ffff"},
		{"flip over", node("ImageFlip", in+`,"flip_method":"x-axis: vertically"`), "00ffff ff00ff ffff00 000000|ff0000 00ff00 0000ff ffffff"},
		{"rotate", node("ImageRotate", in+`,"rotation":"90 degrees"`), "00ffff ff0000|ff00ff 00ff00|ffff00 0000ff|000000 ffffff"},
		{"crop", node("ImageCrop", in+`,"width":2,"height":1,"x":1,"y":0`), "00ff00 0000ff"},
		{"crop beyond the border", node("ImageCrop", in+`,"width":9,"height":9,"x":3,"y":1`), "000000"},
		{"nearest", node("ImageScale", in+`,"upscale_method":"nearest-exact","width":2,"height":1,"crop":"disabled"`), "ff00ff 000000"},
		{"keeps the shape for 0", node("ImageScale", in+`,"upscale_method":"nearest-exact","width":8,"height":0,"crop":"disabled"`),
			"ff0000 ff0000 00ff00 00ff00 0000ff 0000ff ffffff ffffff|ff0000 ff0000 00ff00 00ff00 0000ff 0000ff ffffff ffffff|00ffff 00ffff ff00ff ff00ff ffff00 ffff00 000000 000000|00ffff 00ffff ff00ff ff00ff ffff00 ffff00 000000 000000"},
		{"centre crop", node("ImageScale", in+`,"upscale_method":"nearest-exact","width":2,"height":2,"crop":"center"`), "00ff00 0000ff|ff00ff ffff00"},
		{"blend", `"2":{"class_type":"ImageInvert","inputs":{` + in + `}},` + node("ImageBlend", `"image1":["1",0],"image2":["2",0],"blend_factor":0.5,"blend_mode":"normal"`),
			"808080 808080 808080 808080|808080 808080 808080 808080"},
		{"multiply", `"2":{"class_type":"ImageInvert","inputs":{` + in + `}},` + node("ImageBlend", `"image1":["1",0],"image2":["2",0],"blend_factor":1,"blend_mode":"multiply"`),
			"000000 000000 000000 000000|000000 000000 000000 000000"},
		{"mask", `"2":{"class_type":"MaskToImage","inputs":{"mask":["1",1]}},` + node("ImageCrop", `"image":["2",0],"width":4,"height":1,"x":0,"y":0`), "000000 000000 000000 ffffff"},
		{"inverted mask", `"2":{"class_type":"InvertMask","inputs":{"mask":["1",1]}},` + node("MaskToImage", `"mask":["2",0]`), "ffffff ffffff ffffff 000000|ffffff ffffff ffffff ffffff"},
		{"channel", `"2":{"class_type":"ImageToMask","inputs":{` + in + `,"channel":"green"}},` + node("MaskToImage", `"mask":["2",0]`), "000000 ffffff 000000 ffffff|ffffff 000000 ffffff 000000"},
		{"load as mask", `"2":{"class_type":"LoadImageMask","inputs":{"image":"q.png","channel":"red"}},` + node("MaskToImage", `"mask":["2",0]`), "ffffff 000000 000000 ffffff|000000 ffffff ffffff 000000"},
		{"solid", `"2":{"class_type":"SolidMask","inputs":{"value":0.5,"width":1,"height":1}},` + node("MaskToImage", `"mask":["2",0]`), "808080"},
		{"empty", node("EmptyImage", `"width":1,"height":1,"batch_size":1,"color":1193046`), "123456"},
		{"pad", `"2":{"class_type":"ImagePadForOutpaint","inputs":{` + in + `,"left":0,"top":0,"right":8,"bottom":8,"feathering":0}},` +
			node("ImageCrop", `"image":["2",0],"width":2,"height":2,"x":3,"y":1`), "000000 7f7f7f|7f7f7f 7f7f7f"},
		{"composite", `"2":{"class_type":"EmptyImage","inputs":{"width":2,"height":1,"batch_size":1,"color":0}},` +
			node("ImageCompositeMasked", `"destination":["1",0],"source":["2",0],"x":1,"y":1,"resize_source":false`), "ff0000 00ff00 0000ff ffffff|00ffff 000000 000000 000000"},
		{"batch", `"2":{"class_type":"ImageBatch","inputs":{"image1":["1",0],"image2":["1",0]}},` + node("ImageFromBatch", `"image":["2",0],"batch_index":1,"length":1`),
			"ff0000 00ff00 0000ff ffffff|00ffff ff00ff ffff00 000000"},
		{"resize with padding", node("ImageResizeKJv2", in+`,"width":4,"height":4,"upscale_method":"nearest-exact","keep_proportion":"pad","pad_color":"1, 2, 3","crop_position":"center","divisible_by":2`),
			"010203 010203 010203 010203|ff0000 00ff00 0000ff ffffff|00ffff ff00ff ffff00 000000|010203 010203 010203 010203"},
	} {
		require.Equal(t, c.want, show(r.result(c.nodes)), c.name)
	}
}

func TestABlurKeepsTheMean(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "q.png", picture(t, 32, 32)).status)
	sharp, soft := mean(r.result(`"9":{"class_type":"ImageRotate","inputs":{"image":["1",0],"rotation":"none"}}`)),
		mean(r.result(`"9":{"class_type":"ImageBlur","inputs":{"image":["1",0],"blur_radius":5,"sigma":2}}`))
	require.InDelta(t, sharp, soft, 1)
}

func mean(img image.Image) float64 {
	sum, n := 0.0, 0.0
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			r, g, b, _ := img.At(x, y).RGBA()
			sum, n = sum+float64(r>>8+g>>8+b>>8), n+3
		}
	}
	return sum / n
}

func TestSimulatedPicturesDependOnPromptSeedAndSourceAlone(t *testing.T) {
	r := start(t)
	require.Equal(t, 200, r.upload("/upload/image", "q.png", picture(t, 64, 64)).status)
	sample := func(prompt string, seed int, from string, denoise float64) string {
		r.do("POST", "/free", M{"free_memory": true})
		return show(r.result(fmt.Sprintf(`"2":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"x.safetensors"}},
		"3":{"class_type":"CLIPTextEncode","inputs":{"text":%q,"clip":["2",1]}},"4":%s,
		"5":{"class_type":"KSampler","inputs":{"model":["2",0],"seed":%d,"steps":2,"cfg":7,"sampler_name":"euler","scheduler":"normal","positive":["3",0],"negative":["3",0],"latent_image":["4",0],"denoise":%g}},
		"9":{"class_type":"VAEDecode","inputs":{"samples":["5",0],"vae":["2",2]}}`, prompt, from, seed, denoise)))
	}
	const empty = `{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":64,"batch_size":1}}`
	const source = `{"class_type":"VAEEncode","inputs":{"pixels":["1",0],"vae":["2",2]}}`
	first := sample("dunes", 1, empty, 1)
	require.Equal(t, first, sample("dunes", 1, empty, 1))
	require.NotEqual(t, first, sample("sea", 1, empty, 1))
	require.NotEqual(t, first, sample("dunes", 2, empty, 1))
	require.NotEqual(t, first, sample("dunes", 1, source, 0.6))
	require.Equal(t, first, sample("dunes", 1, source, 1), "fully denoised nothing of the source is left")
	require.Contains(t, first, "000000 ffffff", "the mark is white on black")
}
