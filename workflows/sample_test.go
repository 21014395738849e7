package workflows

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "draw the sample pictures anew")

// TestSamplePicturesAreOurOwnDrawing holds the committed media against the program that drew them.
func TestSamplePicturesAreOurOwnDrawing(t *testing.T) {
	for path, size := range map[string]image.Point{
		"library/wan22-smooth-loop/107.png":     {X: 832, Y: 480},
		"library/image-resize-invert/input.png": {X: 640, Y: 400},
	} {
		want := dunes(size.X, size.Y)
		if *update {
			var out bytes.Buffer
			require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, want))
			require.NoError(t, os.WriteFile(filepath.FromSlash(path), out.Bytes(), 0o644))
		}
		raw, err := os.ReadFile(filepath.FromSlash(path))
		require.NoError(t, err)
		require.Less(t, len(raw), 100_000, "it is embedded in the program")
		got, err := png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, want.Bounds(), got.Bounds())
		// Floating point differs a little between processors: a level is no other picture.
		for _, p := range []image.Point{{X: 1, Y: 1}, {X: size.X / 2, Y: size.Y / 2}, {X: size.X - 9, Y: size.Y - 9}, {X: size.X / 3, Y: 3 * size.Y / 4}} {
			w, g := color.RGBAModel.Convert(want.At(p.X, p.Y)).(color.RGBA), color.RGBAModel.Convert(got.At(p.X, p.Y)).(color.RGBA)
			require.InDelta(t, w.R, g.R, 4, "%s at %v", path, p)
			require.InDelta(t, w.G, g.G, 4, "%s at %v", path, p)
			require.InDelta(t, w.B, g.B, 4, "%s at %v", path, p)
		}
	}
}

type rgb struct{ r, g, b float64 }

func mix(a, b rgb, t float64) rgb {
	t = math.Max(0, math.Min(1, t))
	return rgb{a.r + (b.r-a.r)*t, a.g + (b.g-a.g)*t, a.b + (b.b-a.b)*t}
}

// dunes draws desert dunes at dusk: a sky that glows towards the sun, and five ridges, each with a lit and a dark side.
func dunes(width, height int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := pixel(float64(x)/float64(height), float64(y)/float64(height))
			img.SetRGBA(x, y, color.RGBA{R: level(c.r), G: level(c.g), B: level(c.b), A: 255})
		}
	}
	return img
}

// level writes even numbers only: half the levels make half the file, and nobody sees it.
func level(v float64) uint8 { return uint8(math.Max(0, math.Min(254, v))) &^ 1 }

// pixel is the colour at x, y in units of the picture's height.
func pixel(x, y float64) rgb {
	for layer := 4; layer >= 0; layer-- {
		if d := y - ridge(x, layer); d >= 0 {
			return sand(x, d, layer)
		}
	}
	return sky(x, y)
}

func sky(x, y float64) rgb {
	c := mix(rgb{28, 24, 66}, rgb{122, 58, 110}, y/0.30)
	c = mix(c, rgb{244, 128, 84}, (y-0.22)/0.28)
	sun := math.Hypot(x-1.18, (y-0.40)*1.02)
	c = mix(c, rgb{255, 196, 120}, 0.75*math.Exp(-sun*sun/0.05))
	if sun < 0.062 {
		c = mix(rgb{255, 240, 204}, rgb{255, 222, 160}, sun/0.062)
	}
	return c
}

// ridge is the height at which a layer of dunes begins; layer 4 is the nearest.
func ridge(x float64, layer int) float64 {
	l := float64(layer)
	base := 0.47 + 0.012*l + 0.028*l*l
	swing := 0.018 + 0.016*l
	f := 5.2 - 0.75*l
	return base + swing*math.Sin(f*x+1.7*l) + 0.45*swing*math.Sin(2.3*f*x+0.6*l*l+1)
}

// sand is the colour at depth d under the ridge of a layer.
func sand(x, d float64, layer int) rgb {
	l := float64(layer)
	near := mix(rgb{190, 96, 92}, rgb{58, 30, 58}, l/4.2)
	lit := mix(rgb{250, 160, 104}, rgb{214, 108, 76}, l/4)
	// The side that falls towards the sun is lit; a crest bends down into the slope.
	slope := (ridge(x+0.004, layer) - ridge(x-0.004, layer)) / 0.008
	edge := 0.5 + 2.6*slope - 2.2*d/(0.06+0.04*l) + 0.25*math.Sin(9*x+24*d)
	c := mix(near, lit, edge)
	c = mix(c, rgb{244, 168, 120}, math.Exp(-d/(0.004+0.001*l))*0.7)
	ripple := math.Sin((d*190+14*math.Sin(3*x+l))/(0.5+0.22*l)) * (0.5 + 0.9*l)
	return mix(rgb{c.r + ripple, c.g + ripple*0.8, c.b + ripple*0.7}, rgb{40, 20, 48}, d*0.55)
}
