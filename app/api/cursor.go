package api

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"

	"comfyfleet/models"
)

// cursorCipher writes list positions so that tenants can neither read nor make them: a position counts the jobs of all
// tenants. One AES block is enough; the half that must come out zero tells a good cursor from any other.
type cursorCipher struct {
	blocks []cipher.Block // the first writes, all read
}

func newCursorCipher(s *Signer) cursorCipher {
	var c cursorCipher
	for _, key := range s.derive("cursor of the job list") {
		block, err := aes.NewCipher(key[:16])
		if err != nil {
			panic(err) // the key is 16 bytes
		}
		c.blocks = append(c.blocks, block)
	}
	return c
}

func (c cursorCipher) encode(seq int64) string {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[8:], uint64(seq))
	c.blocks[0].Encrypt(b[:], b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (c cursorCipher) decode(s string) (int64, error) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil && len(raw) == aes.BlockSize {
		for _, block := range c.blocks {
			var b [aes.BlockSize]byte
			block.Decrypt(b[:], raw)
			if seq := int64(binary.BigEndian.Uint64(b[8:])); binary.BigEndian.Uint64(b[:8]) == 0 && seq > 0 {
				return seq, nil
			}
		}
	}
	return 0, models.FieldErrorf(models.CodeInvalid, "bad_cursor", "cursor", "is not a next_cursor of this list")
}
