package sim

import (
	"fmt"
	"image"
	"image/color"
	"strconv"
	"strings"

	"golang.org/x/image/draw"
)

// wanText are the encoded prompts of the WanVideo wrapper.
type wanText struct{ positive, negative string }

func (wanText) String() string { return "{'prompt_embeds': [tensor]}" }

// wanImage is the conditioning on pictures, with the size of the video.
type wanImage struct {
	width, height, frames int
	first, last           pictures
}

func (wanImage) String() string { return "{'image_embeds': tensor}" }

// settings are a node's own inputs, as wrappers pass them along.
type settings map[string]any

func (settings) String() string { return "{…}" }

func runSettings(c *call) (*result, error) { return give(settings(c.in)) }

func runWanText(c *call) (*result, error) {
	for _, m := range c.weights("t5").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	if err := c.s.block(c.s.scaled(c.s.opts.StepTime)); err != nil {
		return nil, err
	}
	return give(wanText{c.str("positive_prompt"), c.str("negative_prompt")})
}

func runWanBridge(c *call) (*result, error) {
	return give(wanText{c.conditioning("positive").text, c.conditioning("negative").text})
}

// loras are the chosen LoRA files.
type loras []string

func (loras) String() string { return "[{…}]" }

func runWanLora(c *call) (*result, error) {
	before, _ := c.in["prev_lora"].(loras)
	return give(append(append(loras{}, before...), c.str("lora")))
}

func (c *call) applyLoras(w weights) (weights, error) {
	chosen, _ := c.in["lora"].(loras)
	for _, name := range chosen {
		m, err := c.load("loras", name)
		if err != nil {
			return w, err
		}
		w = w.with(m)
	}
	return w, nil
}

func runWanModel(c *call) (*result, error) {
	m, err := c.load("diffusion_models", c.str("model"))
	if err != nil {
		return nil, err
	}
	w, err := c.applyLoras(weights{[]*model{m}})
	if err != nil {
		return nil, err
	}
	return give(w)
}

func runWanSetLoras(c *call) (*result, error) {
	w, err := c.applyLoras(c.weights("model"))
	if err != nil {
		return nil, err
	}
	return give(w)
}

func runWanImage(c *call) (*result, error) {
	for _, m := range c.weights("vae").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	if err := c.s.block(c.s.scaled(4 * c.s.opts.StepTime)); err != nil {
		return nil, err
	}
	return give(wanImage{c.int("width"), c.int("height"), c.int("num_frames"), c.pictures("start_image"), c.pictures("end_image")})
}

func runWanSampler(c *call) (*result, error) {
	embeds, _ := c.in["image_embeds"].(wanImage)
	text, _ := c.in["text_embeds"].(wanText)
	l, again := c.in["samples"].(latent)
	if !again {
		l = latent{width: embeds.width, height: embeds.height, frames: max(1, embeds.frames), batch: 1}
	}
	l.scene.prompt, l.scene.seed = join(text.positive, text.negative), c.seed("seed")
	if len(embeds.first) > 0 {
		l.scene.source = embeds.first[0]
	}
	if len(embeds.last) > 0 {
		l.scene.target = embeds.last[0]
	}
	total := c.int("steps")
	start, end := min(c.int("start_step"), total), total
	if _, given := c.in["end_step"]; given && c.int("end_step") >= 0 {
		end = min(c.int("end_step"), total)
	}
	l, err := c.sample(l, c.weights("model"), start, end, total)
	if err != nil {
		return nil, err
	}
	return give(l, l)
}

func runWanDecode(c *call) (*result, error) {
	for _, m := range c.weights("vae").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	if err := c.s.block(c.s.scaled(videoStepFactor * 2 * c.s.opts.StepTime)); err != nil {
		return nil, err
	}
	return c.latent("samples").decode()
}

// runInterpolate adds blended frames between frames.
func runInterpolate(c *call) (*result, error) {
	in, times := c.pictures("frames"), max(1, c.int("multiplier"))
	w, h := in.size()
	count := (len(in)-1)*times + 1
	if err := room(w, h, count); err != nil {
		return nil, err
	}
	m, err := c.load("frame_interpolation", c.str("ckpt_name"))
	if err != nil {
		return nil, err
	}
	if err := c.need(m); err != nil {
		return nil, err
	}
	if err := c.steps(0, len(in)-1, max(1, len(in)-1), c.s.opts.StepTime, nil); err != nil {
		return nil, err
	}
	out := make(pictures, 0, count)
	for i, p := range in {
		out = append(out, p)
		for k := 1; k < times && i+1 < len(in); k++ {
			out = append(out, blend(p, in[i+1], float64(k)/float64(times), "normal"))
		}
	}
	return give(out)
}

// runResizeKJ resizes like KJNodes: stretch, keep the shape, pad, or crop.
func runResizeKJ(c *call) (*result, error) {
	in := c.pictures("image")
	iw, ih := in.size()
	w, h := c.int("width"), c.int("height")
	keep, method := c.str("keep_proportion"), c.str("upscale_method")
	switch keep {
	case "resize":
		w, h = fitInside(iw, ih, w, h)
	default:
		w, h = fill(in[0].Rect, w, h)
	}
	if d := c.int("divisible_by"); d > 1 {
		w, h = max(d, w/d*d), max(d, h/d*d)
	}
	if err := room(w, h, len(in)); err != nil {
		return nil, err
	}
	pad := padColour(c.str("pad_color"))
	out := in.each(func(p *image.RGBA) *image.RGBA {
		switch {
		case keep == "crop":
			return resizeFrom(p, anchored(p.Rect, w, h, c.str("crop_position")), w, h, method)
		case strings.HasPrefix(keep, "pad"), keep == "pillarbox_blur":
			iw, ih := fitInside(iw, ih, w, h)
			canvas := solid(w, h, pad)
			at := image.Rect(0, 0, iw, ih).Add(image.Pt((w-iw)/2, (h-ih)/2))
			draw.Draw(canvas, at, resize(p, iw, ih, method), image.Point{}, draw.Src)
			return canvas
		}
		return resize(p, w, h, method)
	})
	text := fmt.Sprintf("%dx%d -> %dx%d", iw, ih, w, h)
	c.s.hub.send(c.s.ctx, event{binary: textFrame(c.node.id, text)})
	mask := masks{grey(64, 64, 0)}
	if m := c.masks("mask"); m != nil {
		mask = masks{resizeMask(m[0], w, h)}
	}
	return give(out, int64(w), int64(h), mask)
}

// fitInside is the largest size of the shape w:h within the limits; a limit of 0 is none.
func fitInside(w, h, maxW, maxH int) (int, int) {
	switch {
	case maxW == 0 || maxH == 0:
		return fill(image.Rect(0, 0, w, h), maxW, maxH)
	case w*maxH > h*maxW:
		return maxW, max(1, (h*maxW+w/2)/w)
	}
	return max(1, (w*maxH+h/2)/h), maxH
}

// anchored is like centered, but towards an edge.
func anchored(r image.Rectangle, w, h int, edge string) image.Rectangle {
	cut := centered(r, w, h)
	switch edge {
	case "top":
		return cut.Sub(image.Pt(0, cut.Min.Y-r.Min.Y))
	case "bottom":
		return cut.Add(image.Pt(0, r.Max.Y-cut.Max.Y))
	case "left":
		return cut.Sub(image.Pt(cut.Min.X-r.Min.X, 0))
	case "right":
		return cut.Add(image.Pt(r.Max.X-cut.Max.X, 0))
	}
	return cut
}

// padColour reads "r, g, b"; what is no number is 0.
func padColour(text string) color.RGBA {
	parts := strings.Split(text, ",")
	value := func(i int) uint8 {
		if i >= len(parts) {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(parts[i]))
		return uint8(min(255, max(0, n)))
	}
	return color.RGBA{value(0), value(1), value(2), 255}
}

func runSizeAndCount(c *call) (*result, error) {
	in := c.pictures("image")
	w, h := in.size()
	return &result{values: []any{in, int64(w), int64(h), int64(len(in))}, ui: showText(fmt.Sprintf("%dx%dx%d", len(in), w, h))}, nil
}
