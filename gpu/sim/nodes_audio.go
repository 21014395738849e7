package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sound is an AUDIO. The simulator knows silence only.
type sound struct {
	seconds  float64
	rate     int
	channels int
}

func (s sound) String() string { return fmt.Sprintf("{'waveform': tensor, 'sample_rate': %d}", s.rate) }

func runEmptyAudio(c *call) (*result, error) {
	if c.float("duration") > 3600 {
		return nil, raisef("RuntimeError", "can't allocate memory for %g s of audio", c.float("duration"))
	}
	return give(sound{c.float("duration"), c.int("sample_rate"), c.int("channels")})
}

// saveAudio writes silence as FLAC: to temp when prefix is empty.
func saveAudio(toTemp bool) func(*call) (*result, error) {
	return func(c *call) (*result, error) {
		root, kind, prefix := c.s.dirs.output, "output", c.str("filename_prefix")
		if toTemp {
			root, kind, prefix = c.s.dirs.temp, "temp", c.s.tempPrefix(c.node.id, c.node.class)
		}
		p, err := c.s.savePlace(root, prefix, 0, 0)
		if err != nil {
			return nil, err
		}
		a, _ := c.in["audio"].(sound)
		file := fmt.Sprintf("%s_%05d.flac", p.name, p.counter)
		if err := c.s.writeFile(filepath.Join(p.dir, file), func(f *os.File) error { return writeSilence(f, a) }); err != nil {
			return nil, err
		}
		return &result{values: []any{a}, ui: ordered{{"audio", []any{savedFile(file, p.subfolder, kind)}}}}, nil
	}
}

// flacBlock is the number of samples of a frame.
const flacBlock = 4096

// writeSilence writes a FLAC stream of zeros: constant subframes only (RFC 9639).
func writeSilence(w io.Writer, s sound) error {
	rate, channels := max(1, s.rate), max(1, s.channels)
	total := max(1, int(s.seconds*float64(rate)))
	info := binary.BigEndian.AppendUint16(nil, flacBlock)
	info = binary.BigEndian.AppendUint16(info, flacBlock)
	info = append(info, 0, 0, 0, 0, 0, 0) // frame sizes unknown
	packed := uint64(rate)<<44 | uint64(channels-1)<<41 | 15<<36 | uint64(total)
	info = append(binary.BigEndian.AppendUint64(info, packed), make([]byte, 16)...) // no MD5
	head := append([]byte("fLaC\x80\x00\x00"), byte(len(info)))
	if _, err := w.Write(append(head, info...)); err != nil {
		return err
	}
	for number := 0; number*flacBlock < total; number++ {
		if _, err := w.Write(flacFrame(number, min(flacBlock, total-number*flacBlock), channels)); err != nil {
			return err
		}
	}
	return nil
}

// flacFrame is one frame of silence; the sample rate is the stream's, samples have 16 bits.
func flacFrame(number, samples, channels int) []byte {
	frame := []byte{0xFF, 0xF8, 0x70, byte(channels-1)<<4 | 4<<1}
	frame = append(frame, string(rune(number))...) // the coded number is UTF-8's scheme
	frame = binary.BigEndian.AppendUint16(frame, uint16(samples-1))
	frame = append(frame, crc8(frame))
	for range channels {
		frame = append(frame, 0, 0, 0) // constant subframe, value 0
	}
	return binary.BigEndian.AppendUint16(frame, crc16(frame))
}

func crc8(data []byte) (crc byte) {
	for _, b := range data {
		crc ^= b
		for range 8 {
			high := crc & 0x80
			crc <<= 1
			if high != 0 {
				crc ^= 0x07
			}
		}
	}
	return crc
}

func crc16(data []byte) (crc uint16) {
	for _, b := range data {
		crc ^= uint16(b) << 8
		for range 8 {
			high := crc & 0x8000
			crc <<= 1
			if high != 0 {
				crc ^= 0x8005
			}
		}
	}
	return crc
}
