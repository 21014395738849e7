package mp4

import "encoding/binary"

// track describes the one video track of a file.
type track struct {
	width, height int
	sps, pps      []byte
	duration      uint32 // of a frame, in ticks
	sizes         []uint32
	keys          []uint32 // numbers of key frames, from 1
}

// box is size, type, content.
func box(kind string, parts ...[]byte) []byte {
	size := 8
	for _, p := range parts {
		size += len(p)
	}
	out := append(binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(size)), kind...)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// full is a box with version 0 and flags.
func full(kind string, flags uint32, parts ...[]byte) []byte {
	return box(kind, append([][]byte{be32(flags)}, parts...)...)
}

func be32(values ...uint32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	return out
}

func be16(values ...uint16) []byte {
	var out []byte
	for _, v := range values {
		out = binary.BigEndian.AppendUint16(out, v)
	}
	return out
}

// matrix is the identity.
func matrix() []byte { return be32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000) }

func fileType() []byte {
	return box("ftyp", []byte("isom"), be32(0x200), []byte("isomiso2avc1mp41"))
}

// movie is the moov box. It comes before the samples, so that a player can start at once; the samples' offset depends on
// its own size, which is therefore made twice.
func (t *track) movie() []byte {
	probe := t.movieAt(0)
	return t.movieAt(uint32(len(fileType()) + len(probe) + 8))
}

func (t *track) movieAt(offset uint32) []byte {
	length := t.duration * uint32(len(t.sizes))
	header := full("mvhd", 0, be32(0, 0, timescale, length, 0x10000), be16(0x100, 0), be32(0, 0), matrix(), make([]byte, 24), be32(2))
	trackHeader := full("tkhd", 3, be32(0, 0, 1, 0, length, 0, 0), be16(0, 0, 0, 0), matrix(), be32(uint32(t.width)<<16, uint32(t.height)<<16))
	mediaHeader := full("mdhd", 0, be32(0, 0, timescale, length), be16(0x55C4, 0)) // language undetermined
	handler := full("hdlr", 0, be32(0), []byte("vide"), make([]byte, 12), []byte("video\x00"))
	data := box("dinf", full("dref", 0, be32(1), full("url ", 1)))
	info := box("minf", full("vmhd", 1, make([]byte, 8)), data, t.sampleTable(offset))
	return box("moov", header, box("trak", trackHeader, box("mdia", mediaHeader, handler, info)))
}

func (t *track) sampleTable(offset uint32) []byte {
	n := uint32(len(t.sizes))
	return box("stbl",
		full("stsd", 0, be32(1), t.sampleEntry()),
		full("stts", 0, be32(1, n, t.duration)),
		full("stss", 0, be32(uint32(len(t.keys))), be32(t.keys...)),
		full("stsc", 0, be32(1, 1, n, 1)), // one chunk
		full("stsz", 0, be32(0, n), be32(t.sizes...)),
		full("stco", 0, be32(1, offset)),
	)
}

// sampleEntry is the avc1 box with the decoder's configuration.
func (t *track) sampleEntry() []byte {
	config := []byte{1, t.sps[1], t.sps[2], t.sps[3], 0xFF, 0xE1}
	config = append(append(config, be16(uint16(len(t.sps)))...), t.sps...)
	config = append(append(append(config, 1), be16(uint16(len(t.pps)))...), t.pps...)
	return box("avc1", make([]byte, 6), be16(1), make([]byte, 16), be16(uint16(t.width), uint16(t.height)),
		be32(0x480000, 0x480000, 0), be16(1), make([]byte, 32), be16(0x18, 0xFFFF), box("avcC", config))
}
