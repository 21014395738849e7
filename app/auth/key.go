package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash/crc32"
	"math/big"
	"strings"

	"comfyfleet/models"
)

const (
	keyMark = "cfk_"
	// keyBody is how many base62 digits hold 256 bits: 62^43 > 2^256.
	keyBody = 43
	// keyCheck is how many base62 digits hold a CRC-32. It tells a mistyped or cut key from a wrong one, also to
	// scanners that look for leaked keys; it is no protection.
	keyCheck   = 6
	keyLength  = len(keyMark) + keyBody + keyCheck
	prefixSize = 12

	// MinBootstrapKey is the fewest characters of a bootstrap key, the one kind that need not have the usual form.
	MinBootstrapKey = 24
	// maxKey is the longest credential that is looked at.
	maxKey = 512
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewKey mints a key and the Prefix and Hash to keep of it. The key itself cannot be had again.
func NewKey() (key string, k models.APIKey) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	body := toBase62(new(big.Int).SetBytes(random[:]), keyBody)
	key = keyMark + body + keyChecksum(body)
	return key, DescribeKey(key)
}

// DescribeKey is the Prefix and Hash of a key that exists already, as a bootstrap key does.
func DescribeKey(key string) models.APIKey {
	return models.APIKey{Prefix: key[:min(prefixSize, len(key))], Hash: HashKey(key)}
}

// HashKey is what is stored of a key: its SHA-256 in hex.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// WellFormed reports whether key has the form of a minted key and its checksum fits. A bootstrap key need not.
func WellFormed(key string) bool {
	if len(key) != keyLength || !strings.HasPrefix(key, keyMark) {
		return false
	}
	body, check := key[len(keyMark):len(keyMark)+keyBody], key[len(keyMark)+keyBody:]
	for _, c := range body {
		if !strings.ContainsRune(base62, c) {
			return false
		}
	}
	return subtle.ConstantTimeCompare([]byte(check), []byte(keyChecksum(body))) == 1
}

func keyChecksum(body string) string {
	return toBase62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), keyCheck)
}

// toBase62 writes n with exactly width digits, the most significant first.
func toBase62(n *big.Int, width int) string {
	digits := make([]byte, width)
	base, rest := big.NewInt(int64(len(base62))), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rest)
		digits[i] = base62[rest.Int64()]
	}
	return string(digits)
}
