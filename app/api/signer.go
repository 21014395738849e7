package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"comfyfleet/models"
)

// linkLife is how long a signed URL is good.
const linkLife = time.Hour

// SignKey is a secret that signs output URLs. Its ID stands in them.
type SignKey struct {
	ID     string
	Secret []byte // at least 32 bytes
}

// Signer makes and checks the URLs under which outputs can be fetched without a key.
type Signer struct {
	now  func() time.Time
	keys []SignKey
}

// NewSigner signs with the first key and accepts all: keep the previous one for as long as its URLs live.
func NewSigner(now func() time.Time, keys ...SignKey) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("signer: no key")
	}
	for _, k := range keys {
		if k.ID == "" || len(k.Secret) < 32 {
			return nil, fmt.Errorf("signer: key %q needs an id and 32 bytes", k.ID)
		}
	}
	return &Signer{now: now, keys: keys}, nil
}

// Path is the path and query of an output's signed URL.
func (s *Signer) Path(outputID string) string {
	until := strconv.FormatInt(s.now().Add(linkLife).Unix(), 10)
	k := s.keys[0]
	q := url.Values{"expires": {until}, "key": {k.ID}, "signature": {signature(k, outputID, until)}}
	return "/v1/outputs/" + url.PathEscape(outputID) + "?" + q.Encode()
}

// Verify answers nil when the signature is ours and not expired.
func (s *Signer) Verify(outputID, expires, keyID, given string) error {
	for _, k := range s.keys {
		if k.ID != keyID || !hmac.Equal([]byte(signature(k, outputID, expires)), []byte(given)) {
			continue
		}
		at, err := strconv.ParseInt(expires, 10, 64)
		if err != nil || s.now().Unix() >= at {
			return models.Errorf(models.CodeForbidden, "url_expired", "this URL has expired; GET the job for a new one")
		}
		return nil
	}
	return models.Errorf(models.CodeForbidden, "bad_signature", "this URL is not one that was given out; GET the job for its URLs")
}

// signature is compared as text, so another case or encoding of the same bytes is another signature.
func signature(k SignKey, outputID, expires string) string {
	m := hmac.New(sha256.New, k.Secret)
	m.Write([]byte("output\n" + outputID + "\n" + expires))
	return hex.EncodeToString(m.Sum(nil))
}

// derive makes a key for another purpose of each of the signer's keys, in their order.
func (s *Signer) derive(purpose string) [][]byte {
	out := make([][]byte, len(s.keys))
	for i, k := range s.keys {
		m := hmac.New(sha256.New, k.Secret)
		m.Write([]byte("derive\n" + purpose))
		out[i] = m.Sum(nil)
	}
	return out
}
