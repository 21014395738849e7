package comfy

import (
	"bytes"
	"encoding/json"
	"errors"
)

// decode reads JSON as Python writes it: NaN, Infinity and -Infinity count as null.
func decode(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	if syntax := (*json.SyntaxError)(nil); !errors.As(err, &syntax) {
		return err
	}
	clean, changed := scrub(raw)
	if !changed {
		return err
	}
	return json.Unmarshal(clean, v)
}

var notNumbers = [][]byte{[]byte("-Infinity"), []byte("Infinity"), []byte("NaN")}

// scrub replaces Python's not-a-number words outside strings by null.
func scrub(raw []byte) (clean []byte, changed bool) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		switch c := raw[i]; c {
		case '"':
			end := stringEnd(raw, i)
			out = append(out, raw[i:end]...)
			i = end
			continue
		case '-', 'I', 'N':
			if n := notNumber(raw[i:]); n > 0 {
				out, changed = append(out, "null"...), true
				i += n
				continue
			}
		}
		out = append(out, raw[i])
		i++
	}
	return out, changed
}

func notNumber(raw []byte) int {
	for _, w := range notNumbers {
		if bytes.HasPrefix(raw, w) {
			return len(w)
		}
	}
	return 0
}

// stringEnd is the index after the string that begins at i.
func stringEnd(raw []byte, i int) int {
	for j := i + 1; j < len(raw); j++ {
		switch raw[j] {
		case '\\':
			j++
		case '"':
			return j + 1
		}
	}
	return len(raw)
}
