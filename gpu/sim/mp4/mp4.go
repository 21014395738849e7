// Package mp4 writes short videos that any browser plays, without ffmpeg: H.264 whose macroblocks are either plain
// samples or unchanged, in an MP4 file that can be streamed. It trades size for simplicity: a picture that changes
// everywhere takes 1.5 bytes a pixel.
//
// Sources: ITU-T H.264 (sections 7.3 and 7.4 for the syntax), ISO/IEC 14496-12 for boxes and 14496-15 for avcC.
package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
)

// timescale is the number of ticks a second in the file.
const timescale = 90000

// MaxMacroblocks is what level 3.1 allows a picture to have, e.g. 1280x720.
const MaxMacroblocks = 3600

var (
	errNoFrames = errors.New("a video needs at least one frame")
	errTooLarge = errors.New("the picture has more macroblocks than level 3.1 allows")
)

// Write writes frames at fps. All frames have the size of the first; an odd side loses its last row or column.
func Write(w io.Writer, frames []*image.RGBA, fps float64) error {
	if len(frames) == 0 {
		return errNoFrames
	}
	width, height := max(2, frames[0].Rect.Dx()&^1), max(2, frames[0].Rect.Dy()&^1)
	e := newEncoder(width, height)
	if e.columns*e.rows > MaxMacroblocks {
		return errTooLarge
	}
	t := track{width: width, height: height, sps: e.sps(), pps: e.pps(), duration: uint32(math.Round(timescale / max(fps, 0.01)))}
	var samples [][]byte
	for i, frame := range frames {
		unit, key := e.encode(frame, i)
		samples = append(samples, unit)
		t.sizes = append(t.sizes, uint32(len(unit)+4))
		if key {
			t.keys = append(t.keys, uint32(i+1))
		}
	}
	for _, part := range [][]byte{fileType(), t.movie()} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("video header: %w", err)
		}
	}
	return writeSamples(w, samples)
}

// writeSamples writes the mdat box: each NAL unit behind its length.
func writeSamples(w io.Writer, samples [][]byte) error {
	size := uint32(8)
	for _, s := range samples {
		size += uint32(len(s) + 4)
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, size), "mdat"...)); err != nil {
		return fmt.Errorf("video data: %w", err)
	}
	for _, s := range samples {
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s)))); err != nil {
			return fmt.Errorf("video data: %w", err)
		}
		if _, err := w.Write(s); err != nil {
			return fmt.Errorf("video data: %w", err)
		}
	}
	return nil
}
