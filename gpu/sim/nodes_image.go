package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/color"
	_ "image/gif" // decoders for LoadImage
	_ "image/jpeg"
	_ "image/png"
	"io"
	"math"
	"os"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"
)

// maxPixels bounds one simulated picture, so that a graph cannot take the machine's memory with it.
const maxPixels = 64 << 20

// maxBatch bounds the pixels of a whole batch.
const maxBatch = 512 << 20 / 4

// existingFile is the validation of fields that name an input file.
func existingFile(field, kind string) *check {
	return &check{fields: []string{field}, valid: func(s *Server, _ string, value any) string {
		name, _ := value.(string)
		if s.inputFile(name, kind) == "" {
			return "Invalid image file: " + name
		}
		return ""
	}}
}

// fileHash makes a changed file a changed node.
func fileHash(field, kind string) func(*Server, map[string]any) string {
	return func(s *Server, values map[string]any) string {
		name, _ := values[field].(string)
		f, err := os.Open(s.inputFile(name, kind))
		if err != nil {
			return ""
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return ""
		}
		return hex.EncodeToString(h.Sum(nil))
	}
}

// readPicture decodes a file; its alpha channel becomes the mask, inverted as in ComfyUI.
func readPicture(path string) (*image.RGBA, *image.Gray, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, false, raisef("FileNotFoundError", "[Errno 2] No such file or directory")
	}
	defer f.Close()
	config, _, err := image.DecodeConfig(f)
	if err == nil && config.Width*config.Height > maxPixels {
		return nil, nil, false, raisef("DecompressionBombError", "Image size (%d pixels) exceeds limit", config.Width*config.Height)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	var img image.Image
	if err == nil {
		img, _, err = image.Decode(f)
	}
	if err != nil {
		return nil, nil, false, raisef("PIL.UnidentifiedImageError", "cannot identify image file")
	}
	straight := image.NewNRGBA(image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy()))
	draw.Draw(straight, straight.Rect, img, img.Bounds().Min, draw.Src)
	out, mask, transparent := image.NewRGBA(straight.Rect), image.NewGray(straight.Rect), false
	for i := range mask.Pix {
		copy(out.Pix[i*4:i*4+3], straight.Pix[i*4:i*4+3])
		out.Pix[i*4+3] = 255
		mask.Pix[i] = 255 - straight.Pix[i*4+3]
		transparent = transparent || straight.Pix[i*4+3] != 255
	}
	return out, mask, transparent, nil
}

func runLoadImage(kind string) func(*call) (*result, error) {
	return func(c *call) (*result, error) {
		path := c.s.inputFile(c.str("image"), kind)
		img, mask, transparent, err := readPicture(path)
		if err != nil {
			return nil, err
		}
		if !transparent {
			mask = grey(64, 64, 0) // what ComfyUI gives for pictures without alpha
		}
		return give(pictures{img}, masks{mask})
	}
}

func runLoadMask(c *call) (*result, error) {
	img, mask, _, err := readPicture(c.s.inputFile(c.str("image"), "input"))
	if err != nil {
		return nil, err
	}
	if c.str("channel") == "alpha" {
		return give(masks{mask})
	}
	return give(masks{channel(img, c.str("channel"))})
}

// room refuses pictures that the simulator will not hold.
func room(w, h, count int) error {
	if w*h > maxPixels || w*h*count > maxBatch {
		return raisef("RuntimeError", "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate %d bytes.", w*h*count*12)
	}
	return nil
}

func runEmptyImage(c *call) (*result, error) {
	w, h, n, rgb := c.int("width"), c.int("height"), c.int("batch_size"), c.int("color")
	if err := room(w, h, n); err != nil {
		return nil, err
	}
	out := make(pictures, n)
	one := solid(w, h, color.RGBA{uint8(rgb >> 16), uint8(rgb >> 8), uint8(rgb), 255})
	for i := range out {
		out[i] = one
	}
	return give(out)
}

func (c *call) pictures(name string) pictures { p, _ := c.in[name].(pictures); return p }

func (c *call) masks(name string) masks { m, _ := c.in[name].(masks); return m }

func runScale(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := fill(in[0].Rect, c.int("width"), c.int("height"))
	if err := room(w, h, len(in)); err != nil {
		return nil, err
	}
	return give(in.each(func(p *image.RGBA) *image.RGBA {
		from := p.Rect
		if c.str("crop") == "center" {
			from = centered(from, w, h)
		}
		return resizeFrom(p, from, w, h, c.str("upscale_method"))
	}))
}

func scaleBy(c *call, in pictures, factor float64) (*result, error) {
	w, h := in.size()
	w, h = max(1, int(math.Round(float64(w)*factor))), max(1, int(math.Round(float64(h)*factor)))
	if err := room(w, h, len(in)); err != nil {
		return nil, err
	}
	return give(in.each(func(p *image.RGBA) *image.RGBA { return resize(p, w, h, c.str("upscale_method")) }))
}

func runScaleBy(c *call) (*result, error) {
	return scaleBy(c, c.pictures("image"), c.float("scale_by"))
}

func runScaleToPixels(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	return scaleBy(c, in, math.Sqrt(c.float("megapixels")*1024*1024/float64(w*h)))
}

func runInvert(c *call) (*result, error) {
	return give(c.pictures("image").each(func(p *image.RGBA) *image.RGBA {
		out := image.NewRGBA(p.Rect)
		for i, v := range p.Pix {
			if i%4 == 3 {
				out.Pix[i] = 255
			} else {
				out.Pix[i] = 255 - v
			}
		}
		return out
	}))
}

func runBlend(c *call) (*result, error) {
	a, b := c.pictures("image1"), c.pictures("image2")
	w, h := a.size()
	i := -1
	return give(a.each(func(p *image.RGBA) *image.RGBA {
		i++
		return blend(p, resize(b.at(i), w, h, "bicubic"), c.float("blend_factor"), c.str("blend_mode"))
	}))
}

func runBlur(c *call) (*result, error) {
	return give(c.pictures("image").each(func(p *image.RGBA) *image.RGBA { return blur(p, c.int("blur_radius"), c.float("sigma")) }))
}

func runCrop(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	x, y := min(c.int("x"), w-1), min(c.int("y"), h-1)
	cut := image.Rect(x, y, min(w, x+c.int("width")), min(h, y+c.int("height")))
	return give(in.each(func(p *image.RGBA) *image.RGBA { return resizeFrom(p, cut, cut.Dx(), cut.Dy(), "") }))
}

// remap makes a picture of size w, h whose pixel comes from where at says.
func remap(p *image.RGBA, w, h int, at func(x, y int) (int, int)) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			fx, fy := at(x, y)
			copy(out.Pix[y*out.Stride+x*4:][:4], p.Pix[fy*p.Stride+fx*4:][:4])
		}
	}
	return out
}

func runFlip(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	across := c.str("flip_method") == "y-axis: horizontally"
	return give(in.each(func(p *image.RGBA) *image.RGBA {
		return remap(p, w, h, func(x, y int) (int, int) {
			if across {
				return w - 1 - x, y
			}
			return x, h - 1 - y
		})
	}))
}

func runRotate(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	return give(in.each(func(p *image.RGBA) *image.RGBA {
		switch c.str("rotation") {
		case "90 degrees":
			return remap(p, h, w, func(x, y int) (int, int) { return y, h - 1 - x })
		case "180 degrees":
			return remap(p, w, h, func(x, y int) (int, int) { return w - 1 - x, h - 1 - y })
		case "270 degrees":
			return remap(p, h, w, func(x, y int) (int, int) { return w - 1 - y, x })
		}
		return p
	}))
}

func runPad(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	left, top, feather := c.int("left"), c.int("top"), c.int("feathering")
	nw, nh := w+left+c.int("right"), h+top+c.int("bottom")
	if err := room(nw, nh, len(in)); err != nil {
		return nil, err
	}
	old := image.Rect(left, top, left+w, top+h)
	out := in.each(func(p *image.RGBA) *image.RGBA {
		canvas := solid(nw, nh, color.RGBA{127, 127, 127, 255})
		draw.Draw(canvas, old, p, image.Point{}, draw.Src)
		return canvas
	})
	mask := grey(nw, nh, 255)
	for y := old.Min.Y; y < old.Max.Y; y++ {
		for x := old.Min.X; x < old.Max.X; x++ {
			mask.Pix[y*mask.Stride+x] = feathered(x, y, old, image.Rect(0, 0, nw, nh), feather)
		}
	}
	return give(out, masks{mask})
}

// feathered is the mask inside the old picture: it fades towards edges that were extended.
func feathered(x, y int, old, canvas image.Rectangle, feather int) uint8 {
	if feather == 0 || feather*2 >= old.Dx() || feather*2 >= old.Dy() {
		return 0
	}
	nearest := feather
	for _, edge := range []struct {
		extended bool
		distance int
	}{
		{old.Min.X > 0, x - old.Min.X}, {old.Max.X < canvas.Max.X, old.Max.X - 1 - x},
		{old.Min.Y > 0, y - old.Min.Y}, {old.Max.Y < canvas.Max.Y, old.Max.Y - 1 - y},
	} {
		if edge.extended {
			nearest = min(nearest, edge.distance)
		}
	}
	v := float64(feather-nearest) / float64(feather)
	return to8(v * v)
}

func runComposite(c *call) (*result, error) {
	source, mask := c.pictures("source"), c.masks("mask")
	x, y := c.int("x"), c.int("y")
	i := -1
	return give(c.pictures("destination").each(func(p *image.RGBA) *image.RGBA {
		i++
		src := source.at(i)
		if c.flag("resize_source") {
			src = resize(src, p.Rect.Dx(), p.Rect.Dy(), "bilinear")
		}
		out := image.NewRGBA(p.Rect)
		copy(out.Pix, p.Pix)
		at := src.Rect.Add(image.Pt(x, y))
		if mask == nil {
			draw.Draw(out, at, src, image.Point{}, draw.Src)
			return out
		}
		m := resizeMask(mask[min(i, len(mask)-1)], src.Rect.Dx(), src.Rect.Dy())
		draw.DrawMask(out, at, src, image.Point{}, &image.Alpha{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect}, image.Point{}, draw.Over)
		return out
	}))
}

func runBatch(c *call) (*result, error) {
	a, b := c.pictures("image1"), c.pictures("image2")
	w, h := a.size()
	if err := room(w, h, len(a)+len(b)); err != nil {
		return nil, err
	}
	fitted := b.each(func(p *image.RGBA) *image.RGBA { return resizeFrom(p, centered(p.Rect, w, h), w, h, "bilinear") })
	return give(append(append(pictures{}, a...), fitted...))
}

func runRepeat(c *call) (*result, error) {
	in := c.pictures("image")
	var out pictures
	for range c.int("amount") {
		out = append(out, in...) // the same pictures again: they are never changed
	}
	return give(out)
}

func runFromBatch(c *call) (*result, error) {
	in := c.pictures("image")
	from := c.int("batch_index")
	if from < 0 {
		from += len(in)
	}
	from = min(max(0, from), len(in)-1)
	return give(in[from:min(len(in), from+c.int("length"))])
}

func runImageSize(c *call) (*result, error) {
	w, h := c.pictures("image").size()
	return give(int64(w), int64(h), int64(len(c.pictures("image"))))
}

func runSolidMask(c *call) (*result, error) {
	if err := room(c.int("width"), c.int("height"), 1); err != nil {
		return nil, err
	}
	return give(masks{grey(c.int("width"), c.int("height"), to8(c.float("value")))})
}

func runInvertMask(c *call) (*result, error) {
	var out masks
	for _, m := range c.masks("mask") {
		out = append(out, inverted(m))
	}
	return give(out)
}

func runMaskToImage(c *call) (*result, error) {
	var out pictures
	for _, m := range c.masks("mask") {
		out = append(out, fromMask(m))
	}
	return give(out)
}

func runImageToMask(c *call) (*result, error) {
	var out masks
	for _, p := range c.pictures("image") {
		out = append(out, channel(p, c.str("channel")))
	}
	return give(out)
}
