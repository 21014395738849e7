package mp4_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"testing"

	"comfyfleet/gpu/sim/mp4"

	"github.com/stretchr/testify/require"
)

// clip is a still gradient with a bright bar that moves, so that most macroblocks are skipped in most frames.
func clip(w, h, n int) []*image.RGBA {
	frames := make([]*image.RGBA, n)
	for i := range frames {
		img := image.NewRGBA(image.Rect(0, 0, w, h))
		for y := range h {
			for x := range w {
				c := color.RGBA{uint8(200 * x / w), uint8(200 * y / h), 60, 255}
				if x/16 == i%max(1, w/16) {
					c = color.RGBA{250, 240, 10, 255}
				}
				img.SetRGBA(x, y, c)
			}
		}
		frames[i] = img
	}
	return frames
}

// boxes walks the boxes of a file and returns each leaf's content by its path.
func boxes(t *testing.T, data []byte, path string, found map[string][]byte) {
	t.Helper()
	for len(data) > 0 {
		require.GreaterOrEqual(t, len(data), 8, "a box in %q", path)
		size := int(binary.BigEndian.Uint32(data))
		require.LessOrEqual(t, size, len(data), "size of a box in %q", path)
		require.GreaterOrEqual(t, size, 8)
		name := path + "/" + string(data[4:8])
		switch string(data[4:8]) {
		case "moov", "trak", "mdia", "minf", "stbl", "dinf":
			boxes(t, data[8:size], name, found)
		default:
			found[name] = data[8:size]
		}
		data = data[size:]
	}
}

func u32(data []byte, i int) int { return int(binary.BigEndian.Uint32(data[i*4:])) }

func TestBoxesDescribeTheSamples(t *testing.T) {
	var buf bytes.Buffer
	require.NoError(t, mp4.Write(&buf, clip(100, 50, 30), 10))
	found := map[string][]byte{}
	boxes(t, buf.Bytes(), "", found)
	const table = "/moov/trak/mdia/minf/stbl/"
	require.Contains(t, found, "/ftyp")

	mdhd := found["/moov/trak/mdia/mdhd"]
	require.Equal(t, 3*u32(mdhd, 3), u32(mdhd, 4), "30 frames at 10 a second last 3 s")
	sizes := found[table+"stsz"]
	require.Equal(t, 30, u32(sizes, 2))
	total := 0
	for i := range 30 {
		total += u32(sizes, 3+i)
	}
	require.Len(t, found["/mdat"], total, "the samples fill mdat")
	offset := u32(found[table+"stco"], 2)
	require.Equal(t, "mdat", string(buf.Bytes()[offset-4:offset]), "the chunk begins behind the mdat header")
	require.Equal(t, []int{1, 13, 25}, []int{u32(found[table+"stss"], 2), u32(found[table+"stss"], 3), u32(found[table+"stss"], 4)})

	at := offset
	for i := range 30 {
		n := int(binary.BigEndian.Uint32(buf.Bytes()[at:]))
		require.Equal(t, u32(sizes, 3+i), n+4, "sample %d is one NAL unit", i)
		kind := buf.Bytes()[at+4] & 31
		require.Equal(t, i%12 == 0, kind == 5, "sample %d is a key frame every 12 frames", i)
		at += n + 4
	}
	entry := found[table+"stsd"][8:]
	require.Equal(t, "avc1", string(entry[4:8]))
	require.Equal(t, []byte{0, 100, 0, 50}, entry[32:36], "width and height")
}

func TestUnchangedPartsCostNothing(t *testing.T) {
	var still, moving bytes.Buffer
	frames := clip(320, 180, 1)
	require.NoError(t, mp4.Write(&still, []*image.RGBA{frames[0], frames[0], frames[0], frames[0]}, 8))
	require.NoError(t, mp4.Write(&moving, clip(320, 180, 4), 8))
	require.Less(t, still.Len(), 110_000, "one picture of samples")
	require.Less(t, moving.Len(), still.Len()*3/2, "a moving bar is a tenth of the picture")
}

func TestRefusesWhatItCannotWrite(t *testing.T) {
	require.Error(t, mp4.Write(&bytes.Buffer{}, nil, 8))
	require.Error(t, mp4.Write(&bytes.Buffer{}, []*image.RGBA{image.NewRGBA(image.Rect(0, 0, 4000, 4000))}, 8))
}

func TestOddSizesLoseTheirLastRow(t *testing.T) {
	var buf bytes.Buffer
	require.NoError(t, mp4.Write(&buf, clip(33, 17, 2), 8))
	found := map[string][]byte{}
	boxes(t, buf.Bytes(), "", found)
	require.Equal(t, []byte{0, 32, 0, 16}, found["/moov/trak/mdia/minf/stbl/stsd"][8:][32:36])
}
