package sim

import (
	"fmt"
	"image"
	"image/gif"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"image/color/palette"

	"comfyfleet/gpu/sim/mp4"

	"golang.org/x/image/draw"
)

// video is a VIDEO: frames and their rate.
type video struct {
	frames pictures
	fps    float64
}

func (v video) String() string { return "<video " + v.frames.String() + ">" }
func (v video) bytes() int64   { return v.frames.bytes() }

// savePNGs writes each picture of a batch and returns the ui items.
func (c *call) savePNGs(in pictures, root, kind, prefix string) ([]any, error) {
	w, h := in.size()
	p, err := c.s.savePlace(root, prefix, w, h)
	if err != nil {
		return nil, err
	}
	var items []any
	for i, img := range in {
		name := strings.ReplaceAll(p.name, "%batch_num%", strconv.Itoa(i))
		file := fmt.Sprintf("%s_%05d_.png", name, p.counter+i)
		if err := c.s.writeFile(filepath.Join(p.dir, file), func(f *os.File) error { return writePNG(f, img, c.metadata()) }); err != nil {
			return nil, err
		}
		items = append(items, savedFile(file, p.subfolder, kind))
	}
	return items, nil
}

func runSaveImage(c *call) (*result, error) {
	items, err := c.savePNGs(c.pictures("images"), c.s.dirs.output, "output", c.str("filename_prefix"))
	return &result{values: []any{c.in["images"]}, ui: ordered{{"images", items}}}, err
}

func runPreviewImage(c *call) (*result, error) {
	items, err := c.savePNGs(c.pictures("images"), c.s.dirs.temp, "temp", c.s.tempPrefix(c.node.id, c.node.class))
	return &result{values: []any{c.in["images"]}, ui: ordered{{"images", items}}}, err
}

func runMaskPreview(c *call) (*result, error) {
	var shown pictures
	for _, m := range c.masks("mask") {
		shown = append(shown, fromMask(m))
	}
	items, err := c.savePNGs(shown, c.s.dirs.temp, "temp", c.s.tempPrefix(c.node.id, c.node.class))
	return &result{values: []any{c.in["mask"]}, ui: ordered{{"images", items}, {"animated", []any{false}}}}, err
}

// saveOne writes one file prefix_00001_.ext and returns its ui item.
func (c *call) saveOne(in pictures, extension string, write func(*os.File) error) (ordered, error) {
	w, h := in.size()
	p, err := c.s.savePlace(c.s.dirs.output, c.str("filename_prefix"), w, h)
	if err != nil {
		return nil, err
	}
	file := fmt.Sprintf("%s_%05d_.%s", p.name, p.counter, extension)
	return savedFile(file, p.subfolder, "output"), c.s.writeFile(filepath.Join(p.dir, file), write)
}

func runSaveAnimation(c *call) (*result, error) {
	in := c.pictures("images")
	item, err := c.saveOne(in, "png", func(f *os.File) error { return writeAPNG(f, in, c.float("fps"), c.metadata()) })
	return &result{values: []any{in}, ui: ordered{{"images", []any{item}}, {"animated", []any{true}}}}, err
}

func runCreateVideo(c *call) (*result, error) {
	return give(video{c.pictures("images"), c.float("fps")})
}

func runVideoParts(c *call) (*result, error) {
	v, _ := c.in["video"].(video)
	return give(v.frames, sound{}, v.fps)
}

func runSaveVideo(c *call) (*result, error) {
	v, _ := c.in["video"].(video)
	item, err := c.saveOne(v.frames, "mp4", func(f *os.File) error { return mp4.Write(f, fitVideo(v.frames), v.fps) })
	return &result{values: []any{v}, ui: ordered{{"images", []any{item}}, {"animated", []any{true}}}}, err
}

// fitVideo makes frames small enough for the encoder.
func fitVideo(in pictures) pictures {
	w, h := in.size()
	if ((w+15)/16)*((h+15)/16) <= mp4.MaxMacroblocks {
		return in
	}
	w, h = fitInside(w, h, 960, 960)
	return in.each(func(p *image.RGBA) *image.RGBA { return resize(p, w&^1, h&^1, "bilinear") })
}

// runVideoCombine writes a batch like VideoHelperSuite: a picture with the metadata beside the video, names without a
// trailing underscore, the ui under "gifs".
func runVideoCombine(c *call) (*result, error) {
	in := c.pictures("images")
	if len(in) == 0 {
		return nil, raisef("ValueError", "no frames to combine")
	}
	if c.flag("pingpong") {
		for i := len(c.pictures("images")) - 2; i > 0; i-- {
			in = append(in[:len(in):len(in)], in[i])
		}
	}
	root, kind := c.s.dirs.output, "output"
	if !c.flag("save_output") {
		root, kind = c.s.dirs.temp, "temp"
	}
	w, h := in.size()
	p, err := c.s.savePlace(root, c.str("filename_prefix"), w, h)
	if err != nil {
		return nil, err
	}
	still := fmt.Sprintf("%s_%05d.png", p.name, p.counter)
	if err := c.s.writeFile(filepath.Join(p.dir, still), func(f *os.File) error { return writePNG(f, in[0], c.metadata()) }); err != nil {
		return nil, err
	}
	fps := c.float("frame_rate")
	format, extension, write := c.str("format"), "mp4", func(f *os.File) error { return mp4.Write(f, fitVideo(in), fps) }
	switch format {
	case "image/gif":
		extension, write = "gif", func(f *os.File) error { return writeGIF(f, in, fps) }
	case "image/webp":
		format, extension, write = "image/apng", "apng", func(f *os.File) error { return writeAPNG(f, in, fps, nil) }
	default:
		format = "video/h264-mp4" // whatever was asked for, this is what it is
	}
	file := fmt.Sprintf("%s_%05d.%s", p.name, p.counter, extension)
	path := filepath.Join(p.dir, file)
	if err := c.s.writeFile(path, write); err != nil {
		return nil, err
	}
	item := append(savedFile(file, p.subfolder, kind), field{"format", format}, field{"frame_rate", fps}, field{"workflow", still}, field{"fullpath", path})
	return &result{values: []any{[]any{c.flag("save_output"), []any{path}}}, ui: ordered{{"gifs", []any{item}}}}, nil
}

func writeGIF(f *os.File, frames pictures, fps float64) error {
	out := &gif.GIF{}
	for _, frame := range frames {
		p := image.NewPaletted(frame.Rect, palette.Plan9)
		draw.Draw(p, p.Rect, frame, image.Point{}, draw.Src)
		out.Image, out.Delay = append(out.Image, p), append(out.Delay, int(max(2, 100/max(fps, 1))))
	}
	return gif.EncodeAll(f, out)
}
