package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"comfyfleet/models"
)

const (
	// SessionLife ends a sign-in however much it is used.
	SessionLife = 7 * 24 * time.Hour
	// SessionIdle ends one that is not used.
	SessionIdle = 12 * time.Hour
	// touchEvery is how exactly SeenAt is kept: a write for every request would be a write for every poll.
	touchEvery = time.Minute
	// maxUserAgent is what is kept of a User-Agent header, in bytes.
	maxUserAgent = 200
)

// NewSession begins a sign-in of operator. The cookie goes to the browser and is kept nowhere; the session to the store.
func NewSession(operator models.Operator, ip, userAgent string, now time.Time) (cookie string, s models.Session) {
	cookie = token()
	hash, _ := HashCookie(cookie)
	return cookie, models.Session{
		Hash:       hash,
		OperatorID: operator.ID,
		CSRF:       token(),
		CreatedAt:  now,
		SeenAt:     now,
		ExpiresAt:  now.Add(SessionLife),
		IP:         strings.Clone(ip),
		UserAgent:  strings.ToValidUTF8(strings.Clone(userAgent[:min(len(userAgent), maxUserAgent)]), ""),
	}
}

// HashCookie is what a session is stored under. ok is false for what cannot be a cookie of ours.
func HashCookie(cookie string) (hash string, ok bool) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(cookie); err != nil || len(raw) != 32 {
		return "", false
	}
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:]), true
}

// SessionLive reports whether s still counts at now: neither past its end nor idle for too long.
func SessionLive(s models.Session, now time.Time) bool {
	return now.Before(s.ExpiresAt) && now.Sub(s.SeenAt) < SessionIdle
}

// TouchDue reports whether SeenAt is old enough to be written again.
func TouchDue(s models.Session, now time.Time) bool { return now.Sub(s.SeenAt) >= touchEvery }

// CSRFToken is the session's token as one page carries it: behind a pad of its own, so that it never stands twice in the
// same form in answers that are compressed together with what a request said.
func CSRFToken(s models.Session) string {
	pad := make([]byte, len(s.CSRF))
	_, _ = rand.Read(pad) // never fails
	masked := make([]byte, len(pad))
	subtle.XORBytes(masked, pad, []byte(s.CSRF))
	return base64.RawURLEncoding.EncodeToString(append(pad, masked...))
}

// CSRFValid reports whether token is one that the session's pages carry.
func CSRFValid(s models.Session, token string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || s.CSRF == "" || len(raw) != 2*len(s.CSRF) {
		return false
	}
	plain := make([]byte, len(s.CSRF))
	subtle.XORBytes(plain, raw[:len(plain)], raw[len(plain):])
	return subtle.ConstantTimeCompare([]byte(s.CSRF), plain) == 1
}

// token is 256 random bits in 43 characters that need no escaping anywhere.
func token() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(raw[:])
}
