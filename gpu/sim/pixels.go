package sim

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"golang.org/x/image/draw"
)

// pictures is an IMAGE: a batch of opaque pictures of one size. Nodes never change a picture that they were given.
type pictures []*image.RGBA

// masks is a MASK: a batch of grey pictures of one size.
type masks []*image.Gray

func (p pictures) bytes() int64 {
	var n int64
	for _, one := range p {
		n += int64(len(one.Pix))
	}
	return n
}

func (m masks) bytes() int64 {
	var n int64
	for _, one := range m {
		n += int64(len(one.Pix))
	}
	return n
}

func (p pictures) String() string {
	w, h := p.size()
	return fmt.Sprintf("tensor(%dx%dx%dx3)", len(p), h, w)
}

func (m masks) String() string {
	return fmt.Sprintf("tensor(%dx%dx%d)", len(m), m[0].Rect.Dy(), m[0].Rect.Dx())
}

// size is the width and height of the pictures.
func (p pictures) size() (w, h int) {
	if len(p) == 0 {
		return 0, 0
	}
	return p[0].Rect.Dx(), p[0].Rect.Dy()
}

// each makes a batch with fn applied to every picture.
func (p pictures) each(fn func(*image.RGBA) *image.RGBA) pictures {
	out := make(pictures, len(p))
	for i, one := range p {
		out[i] = fn(one)
	}
	return out
}

// at is the picture for position i of a longer batch: the last one repeats.
func (p pictures) at(i int) *image.RGBA { return p[min(i, len(p)-1)] }

func solid(w, h int, c color.RGBA) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(out, out.Rect, image.NewUniform(c), image.Point{}, draw.Src)
	return out
}

func grey(w, h int, v uint8) *image.Gray {
	out := image.NewGray(image.Rect(0, 0, w, h))
	for i := range out.Pix {
		out.Pix[i] = v
	}
	return out
}

// scaler is the interpolation that a method name stands for.
func scaler(method string) draw.Scaler {
	switch method {
	case "nearest-exact":
		return draw.NearestNeighbor
	case "bicubic":
		return draw.CatmullRom
	case "lanczos":
		return &draw.Kernel{Support: 3, At: func(t float64) float64 {
			if t == 0 {
				return 1
			}
			x := math.Pi * t
			return 3 * math.Sin(x) * math.Sin(x/3) / (x * x)
		}}
	}
	return draw.BiLinear // bilinear and area: the kernel widens when it shrinks
}

// resize scales a picture. Both sides must be positive.
func resize(src *image.RGBA, w, h int, method string) *image.RGBA {
	return resizeFrom(src, src.Rect, w, h, method)
}

func resizeFrom(src *image.RGBA, from image.Rectangle, w, h int, method string) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if from.Dx() == w && from.Dy() == h {
		draw.Draw(out, out.Rect, src, from.Min, draw.Src)
		return out
	}
	scaler(method).Scale(out, out.Rect, src, from, draw.Src, nil)
	return out
}

func resizeMask(src *image.Gray, w, h int) *image.Gray {
	out := image.NewGray(image.Rect(0, 0, w, h))
	draw.BiLinear.Scale(out, out.Rect, src, src.Rect, draw.Src, nil)
	return out
}

// centered is the largest rectangle of the shape w:h in the middle of a picture.
func centered(r image.Rectangle, w, h int) image.Rectangle {
	have, want := float64(r.Dx())/float64(r.Dy()), float64(w)/float64(h)
	if have > want {
		cut := int(math.Round((float64(r.Dx()) - float64(r.Dy())*want) / 2))
		return image.Rect(r.Min.X+cut, r.Min.Y, max(r.Min.X+cut+1, r.Max.X-cut), r.Max.Y)
	}
	cut := int(math.Round((float64(r.Dy()) - float64(r.Dx())/want) / 2))
	return image.Rect(r.Min.X, r.Min.Y+cut, r.Max.X, max(r.Min.Y+cut+1, r.Max.Y-cut))
}

// fill gives a missing side the value that keeps the shape, as ImageScale does for 0.
func fill(src image.Rectangle, w, h int) (int, int) {
	switch {
	case w == 0 && h == 0:
		return src.Dx(), src.Dy()
	case w == 0:
		w = int(math.Round(float64(src.Dx()) * float64(h) / float64(src.Dy())))
	case h == 0:
		h = int(math.Round(float64(src.Dy()) * float64(w) / float64(src.Dx())))
	}
	return max(1, w), max(1, h)
}

// blend mixes two pictures of the same size per channel; values are 0 to 1.
func blend(a, b *image.RGBA, factor float64, mode string) *image.RGBA {
	if mode == "normal" {
		return crossfade(a, b, factor)
	}
	mix := blendMode(mode)
	out := image.NewRGBA(a.Rect)
	for i := range a.Pix {
		if i%4 == 3 {
			out.Pix[i] = 255
			continue
		}
		x, y := float64(a.Pix[i])/255, float64(b.Pix[i])/255
		out.Pix[i] = to8(x*(1-factor) + mix(x, y)*factor)
	}
	return out
}

// crossfade is the common case of blend, and worth its speed where a video gets more frames.
func crossfade(a, b *image.RGBA, factor float64) *image.RGBA {
	out := image.NewRGBA(a.Rect)
	weight := int(math.Round(factor * 256))
	for i, v := range a.Pix {
		out.Pix[i] = uint8((int(v)*(256-weight) + int(b.Pix[i])*weight + 128) >> 8)
	}
	return out
}

func blendMode(mode string) func(a, b float64) float64 {
	switch mode {
	case "multiply":
		return func(a, b float64) float64 { return a * b }
	case "screen":
		return func(a, b float64) float64 { return 1 - (1-a)*(1-b) }
	case "overlay":
		return func(a, b float64) float64 {
			if a <= 0.5 {
				return 2 * a * b
			}
			return 1 - 2*(1-a)*(1-b)
		}
	case "soft_light":
		return softLight
	case "difference":
		return func(a, b float64) float64 { return a - b } // clamped below, so one-sided as in ComfyUI
	}
	return func(_, b float64) float64 { return b }
}

func softLight(a, b float64) float64 {
	if b <= 0.5 {
		return a - (1-2*b)*a*(1-a)
	}
	g := math.Sqrt(a)
	if a <= 0.25 {
		g = ((16*a-12)*a + 4) * a
	}
	return a + (2*b-1)*(g-a)
}

func to8(v float64) uint8 { return uint8(math.Round(min(1, max(0, v)) * 255)) }

// blur is a separable Gaussian with reflected borders.
func blur(src *image.RGBA, radius int, sigma float64) *image.RGBA {
	kernel, sum := make([]float64, 2*radius+1), 0.0
	for i := range kernel {
		d := float64(i - radius)
		kernel[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= sum
	}
	w, h := src.Rect.Dx(), src.Rect.Dy()
	across := image.NewRGBA(src.Rect)
	convolve(across, src, kernel, w, h, func(x, y, d int) int { return y*src.Stride + reflect(x+d, w)*4 })
	out := image.NewRGBA(src.Rect)
	convolve(out, across, kernel, w, h, func(x, y, d int) int { return reflect(y+d, h)*src.Stride + x*4 })
	return out
}

func convolve(dst, src *image.RGBA, kernel []float64, w, h int, offset func(x, y, d int) int) {
	radius := len(kernel) / 2
	for y := range h {
		for x := range w {
			var sum [3]float64
			for k, weight := range kernel {
				at := offset(x, y, k-radius)
				for c := range sum {
					sum[c] += weight * float64(src.Pix[at+c])
				}
			}
			at := y*dst.Stride + x*4
			for c := range sum {
				dst.Pix[at+c] = uint8(math.Round(sum[c]))
			}
			dst.Pix[at+3] = 255
		}
	}
}

// reflect mirrors an index at the borders of 0…n-1.
func reflect(i, n int) int {
	if n == 1 {
		return 0
	}
	period := 2 * (n - 1)
	i = ((i % period) + period) % period
	if i >= n {
		i = period - i
	}
	return i
}

// channel is one channel of a picture as a mask.
func channel(src *image.RGBA, name string) *image.Gray {
	at := map[string]int{"red": 0, "green": 1, "blue": 2, "alpha": 3}[name]
	out := image.NewGray(image.Rect(0, 0, src.Rect.Dx(), src.Rect.Dy()))
	for i := range out.Pix {
		out.Pix[i] = src.Pix[i*4+at]
	}
	return out
}

// fromMask is a mask as a grey picture.
func fromMask(m *image.Gray) *image.RGBA {
	out := image.NewRGBA(m.Rect)
	for i, v := range m.Pix {
		copy(out.Pix[i*4:], []byte{v, v, v, 255})
	}
	return out
}

func inverted(m *image.Gray) *image.Gray {
	out := image.NewGray(m.Rect)
	for i, v := range m.Pix {
		out.Pix[i] = 255 - v
	}
	return out
}
