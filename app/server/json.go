package server

import (
	"bytes"
	"encoding/json"
)

// EncodeJSON is json.Marshal for answers and events: it leaves <, > and & as they are, so that a URL copied from one works.
// None of them is read as a page: they say what they are, and nosniff.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
