package store

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxExpanded bounds what a stored value may expand to. The largest we write are an engine's node definitions, a few
// MiB, and a request without its media, 4 MiB.
const maxExpanded = 256 << 20

func newCodec() (*zstd.Encoder, *zstd.Decoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxExpanded), zstd.WithDecoderLowmem(true))
	return enc, dec, err
}

// pack compresses a big value; nil and empty stay as they are. Call it before entering the writer, which has one core.
func (s *Store) pack(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	return s.compress.EncodeAll(b, make([]byte, 0, len(b)/4))
}

func (s *Store) unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return b, nil
	}
	out, err := s.expand.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("expand stored value: %w", err)
	}
	return out, nil
}
