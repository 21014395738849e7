package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
)

// textChunk is a PNG tEXt chunk.
type textChunk struct{ key, value string }

// metadata are the chunks that a saved picture carries: the graph as executed and each key of extra_pnginfo.
func (c *call) metadata() []textChunk {
	if c.s.opts.DisableMetadata {
		return nil
	}
	chunks := []textChunk{{"prompt", string(c.x.item.graph.raw)}}
	for _, f := range c.x.item.pngInfo {
		chunks = append(chunks, textChunk{f.key, fmt.Sprintf("%s", f.value)})
	}
	return chunks
}

// writePNG writes a picture with text chunks after the header, where PIL puts them.
func writePNG(w io.Writer, img image.Image, chunks []textChunk) error {
	var buf bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&buf, img); err != nil {
		return err
	}
	raw := buf.Bytes()
	const header = 8 + 12 + 13 // signature, IHDR
	if _, err := w.Write(raw[:header]); err != nil {
		return err
	}
	if err := writeChunks(w, chunks); err != nil {
		return err
	}
	_, err := w.Write(raw[header:])
	return err
}

func writeChunks(w io.Writer, chunks []textChunk) error {
	for _, t := range chunks {
		if err := writeChunk(w, "tEXt", append(append([]byte(t.key), 0), asciiJSON(t.value)...)); err != nil {
			return err
		}
	}
	return nil
}

// asciiJSON escapes what is not ASCII, as Python's json.dumps does, since tEXt is Latin-1.
func asciiJSON(text string) []byte {
	var out []byte
	for _, r := range text {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r > 0xFFFF:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func writeChunk(w io.Writer, kind string, data []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	body := append([]byte(kind), data...)
	out := append(head, body...)
	_, err := w.Write(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body)))
	return err
}

// writeAPNG writes a batch as an animated PNG that loops.
func writeAPNG(w io.Writer, frames pictures, fps float64, chunks []textChunk) error {
	var first bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := enc.Encode(&first, frames[0]); err != nil {
		return err
	}
	const header = 8 + 12 + 13
	if _, err := w.Write(first.Bytes()[:header]); err != nil {
		return err
	}
	if err := writeChunks(w, chunks); err != nil {
		return err
	}
	if err := writeChunk(w, "acTL", binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(len(frames))), 0)); err != nil {
		return err
	}
	sequence := uint32(0)
	for i, frame := range frames {
		if err := writeChunk(w, "fcTL", frameControl(sequence, frame.Rect, fps)); err != nil {
			return err
		}
		sequence++
		var buf bytes.Buffer
		if err := enc.Encode(&buf, frame); err != nil {
			return err
		}
		data := pixelData(buf.Bytes())
		kind := "IDAT"
		if i > 0 {
			kind, data = "fdAT", append(binary.BigEndian.AppendUint32(nil, sequence), data...)
			sequence++
		}
		if err := writeChunk(w, kind, data); err != nil {
			return err
		}
	}
	return writeChunk(w, "IEND", nil)
}

// frameControl is the data of an fcTL chunk: the whole picture, shown for one frame of fps.
func frameControl(sequence uint32, r image.Rectangle, fps float64) []byte {
	out := binary.BigEndian.AppendUint32(nil, sequence)
	for _, v := range []int{r.Dx(), r.Dy(), 0, 0} {
		out = binary.BigEndian.AppendUint32(out, uint32(v))
	}
	out = binary.BigEndian.AppendUint16(out, uint16(min(65535, max(1, 1000/fps))))
	out = binary.BigEndian.AppendUint16(out, 1000)
	return append(out, 0, 0)
}

// pixelData joins the IDAT chunks of a PNG.
func pixelData(raw []byte) (data []byte) {
	for raw = raw[8:]; len(raw) >= 12; {
		n := binary.BigEndian.Uint32(raw)
		if string(raw[4:8]) == "IDAT" {
			data = append(data, raw[8:8+n]...)
		}
		raw = raw[12+n:]
	}
	return data
}
