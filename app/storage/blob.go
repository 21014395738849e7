package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"comfyfleet/models"
)

// Blob is a stored object: its asset id, and what was counted and hashed while it was written.
type Blob struct {
	ID          string // asset id, a UUID; the key in the bucket derives from it
	Size        int64
	SHA256      string // hex
	ContentType string // as sniffed from the first bytes
}

// Describe is what a blob with this content would be, without storing it.
func Describe(id string, content []byte) Blob {
	sum := sha256.Sum256(content)
	return Blob{ID: id, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), ContentType: typeOf(content)}
}

// typeOf is what bytes are, by the first of them.
func typeOf(head []byte) string { return mimetype.Detect(head[:min(len(head), sniffLimit)]).String() }

// idLength is that of a UUID in its usual form: 8-4-4-4-12 hex digits.
const idLength = 36

// validID reports whether id is a lower-case UUID. Ids become file names, so nothing else may pass: no dots, no
// slashes, no upper case that a file system might fold.
func validID(id string) bool {
	if len(id) != idLength {
		return false
	}
	for i, c := range []byte(id) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// shardOf is the directory of a blob: its id's first two digits. 256 directories keep each of them small.
func shardOf(id string) string { return id[:2] }

func keyOf(id string) string { return shardOf(id) + "/" + id }

// idOf is the id of a key, "" for a key that is no blob of ours.
func idOf(key string) string {
	shard, id, ok := strings.Cut(key, "/")
	if !ok || !validID(id) || shard != shardOf(id) {
		return ""
	}
	return id
}

func errNoBlob() error { return models.ErrNotFound("stored file") }
