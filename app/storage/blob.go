package storage

// Blob is a stored object: its asset id, and what was counted and hashed while it was written.
type Blob struct {
	ID          string // asset id, a UUID; the key in the bucket derives from it
	Size        int64
	SHA256      string // hex
	ContentType string // as sniffed from the first bytes
}
