package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"strings"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

const (
	mark         = "simulated"
	previewSide  = 256 // longest side of a preview
	maxFrameSide = 320 // longest side of a simulated video's frame, to keep files small
	maxFrames    = 24  // of a simulated video
)

// scene is what a sampler "sees": everything that decides its picture.
type scene struct {
	prompt string
	seed   uint64
	source *image.RGBA // nil for none
	target *image.RGBA // last frame of a video, nil for none
}

// colours are three colours and some waves derived from prompt and seed.
type colours struct {
	base  [3][3]float64
	waves [4][3]float64 // frequency x, frequency y, phase
}

func (s scene) palette() colours {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.prompt+"\x00"), s.seed))
	var p colours
	for i := range p.base {
		for c := range 3 {
			p.base[i][c] = 20 + float64(sum[i*3+c])*0.86
		}
	}
	for i := range p.waves {
		b := sum[9+i*3:]
		p.waves[i] = [3]float64{float64(b[0])/40 - 3, float64(b[1])/40 - 3, float64(b[2]) / 40}
	}
	return p
}

// draw makes a still picture in the size w, h. done, 0 to 1, is how far sampling got: the rest is noise.
func (s scene) draw(w, h int, done float64) *image.RGBA {
	out := s.background(w, h, done)
	label(out, mark)
	return out
}

// background is the still part of the picture.
func (s scene) background(w, h int, done float64) *image.RGBA {
	p := s.palette()
	if s.source != nil {
		out := resizeFrom(s.source, centered(s.source.Rect, w, h), w, h, "bilinear")
		tint(out, p.base[0], 0.08+0.5*(1-done))
		return out
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			u, v := float64(x)/float64(w), float64(y)/float64(h)
			a, b := 0.0, 0.0
			for k, wave := range p.waves {
				t := math.Sin(wave[0]*u*math.Pi + wave[1]*v*math.Pi + wave[2])
				if k%2 == 0 {
					a += t
				} else {
					b += t
				}
			}
			a, b = (a+2)/4, (b+2)/4
			if done < 1 {
				noise := float64(uint32(x*7919^y*104729)*2654435761>>24) / 255
				a, b = a*done+noise*(1-done), b*done+noise*(1-done)
			}
			at := out.Pix[y*out.Stride+x*4:]
			for c := range 3 {
				low := p.base[0][c] + (p.base[1][c]-p.base[0][c])*a
				at[c] = uint8(low + (p.base[2][c]-low)*b*0.7)
			}
			at[3] = 255
		}
	}
	return out
}

func tint(img *image.RGBA, colour [3]float64, amount float64) {
	for i := 0; i < len(img.Pix); i += 4 {
		for c := range 3 {
			img.Pix[i+c] = uint8(float64(img.Pix[i+c])*(1-amount) + colour[c]*amount)
		}
	}
}

// sweep draws the movement of frame i of n: a soft band of light, or of the last frame, that crosses the picture once, so
// that the video loops. The target must have the picture's size.
func (s scene) sweep(img *image.RGBA, i, n int) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	width := max(8, w/6)
	left := (w + width) * i / n
	for x := max(0, left-width); x < min(w, left); x++ {
		glow := math.Sin(math.Pi * float64(left-x) / float64(width))
		for y := range h {
			at := y*img.Stride + x*4
			for c := range 3 {
				to := 255.0
				if s.target != nil {
					to = float64(s.target.Pix[at+c])
				}
				v := float64(img.Pix[at+c])
				img.Pix[at+c] = uint8(v + (to-v)*glow*0.6)
			}
		}
	}
}

// frames renders a whole video.
func (s scene) frames(w, h, n int) pictures {
	if s.source == nil {
		s.source = s.background(w, h, 1) // a video from text moves too
	}
	still := s.background(w, h, 1)
	if s.target != nil {
		s.target = resizeFrom(s.target, centered(s.target.Rect, w, h), w, h, "bilinear")
	}
	out := make(pictures, n)
	for i := range out {
		out[i] = image.NewRGBA(still.Rect)
		copy(out[i].Pix, still.Pix)
		s.sweep(out[i], i, n)
		label(out[i], mark)
	}
	return out
}

// label writes a text into the lower left corner on a dark strip, larger on larger pictures.
func label(img *image.RGBA, text string) {
	face := basicfont.Face7x13
	small := image.NewRGBA(image.Rect(0, 0, 7*len(text)+6, 17))
	draw.Draw(small, small.Rect, image.NewUniform(color.RGBA{0, 0, 0, 255}), image.Point{}, draw.Src)
	(&font.Drawer{Dst: small, Src: image.White, Face: face, Dot: fixed.P(3, 13)}).DrawString(text)
	scale := max(1, img.Rect.Dx()/320)
	at := image.Rect(0, img.Rect.Dy()-small.Rect.Dy()*scale, small.Rect.Dx()*scale, img.Rect.Dy())
	draw.NearestNeighbor.Scale(img, at, small, small.Rect, draw.Src, nil)
}

// preview is a small JPEG of the scene at some point of the sampling.
func (s scene) preview(w, h int, done float64) []byte {
	scale := min(1, float64(previewSide)/float64(max(w, h, 1)))
	img := s.draw(max(16, int(float64(w)*scale)), max(16, int(float64(h)*scale)), done)
	return toJPEG(img, 90)
}

func toJPEG(img image.Image, quality int) []byte {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: quality}); err != nil {
		return nil // only a picture wider than 65535 cannot be encoded
	}
	return buf.Bytes()
}

// videoSize is the size of a simulated video's frames and their number: the shape that was asked for, made small.
func videoSize(w, h, n int) (int, int, int) {
	scale := min(1, float64(maxFrameSide)/float64(max(w, h, 1)))
	even := func(v int) int { return max(16, int(float64(v)*scale)&^1) }
	return even(w), even(h), max(1, min(n, maxFrames))
}

// join makes one prompt of several texts.
func join(texts ...string) string { return strings.Join(texts, "\x00") }
