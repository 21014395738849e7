package workflows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
)

// member is one key and value of a JSON object, as the client wrote them.
type member struct {
	name  string // unquoted
	key   []byte // with its quotes
	value json.RawMessage
}

// members lists an object's members in order. b must be valid JSON that starts with '{'. A name that comes twice is an
// error: parsers differ in which of the two counts, so what we check might not be what an engine runs.
func members(b []byte) ([]member, error) { return appendMembers(make([]member, 0, 8), b, nil) }

// appendMembers is members into a list that may have been used before. names, unless nil, holds one copy of each name:
// the nodes of a graph have few different ones.
func appendMembers(list []member, b []byte, names map[string]string) ([]member, error) {
	list = list[:0]
	var seen map[string]bool // made when there are many; a few are quicker compared
	i := skipSpace(b, 1)
	for i < len(b) && b[i] != '}' {
		end := valueEnd(b, i)
		m := member{key: b[i:end], name: intern(names, b[i:end])}
		i = skipSpace(b, skipSpace(b, end)+1) // over the colon
		end = valueEnd(b, i)
		m.value = json.RawMessage(b[i:end])
		if len(list) == 16 {
			seen = make(map[string]bool, max(64, cap(list)))
			for _, m := range list {
				seen[m.name] = true
			}
		}
		if seen[m.name] || seen == nil && has(list, m.name) {
			return nil, fmt.Errorf("the key %q appears twice in one object", shorten(m.name))
		}
		if seen != nil {
			seen[m.name] = true
		}
		list = append(list, m)
		if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return list, nil
}

// intern is unquote with one copy of each string.
func intern(names map[string]string, quoted []byte) string {
	if names == nil || len(quoted) < 2 {
		return unquote(quoted)
	}
	if s, ok := names[string(quoted)]; ok {
		return s
	}
	s := unquote(quoted)
	names[string(quoted)] = s
	return s
}

// elements walks through an array's values. b must be valid JSON that starts with '['.
func elements(b []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		i := skipSpace(b, 1)
		for i < len(b) && b[i] != ']' {
			end := valueEnd(b, i)
			if !yield(json.RawMessage(b[i:end])) {
				return
			}
			if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	}
}

// inspect walks a whole valid value: no key twice anywhere, and nothing nested deeper than depth.
func inspect(b []byte, depth int) error {
	if len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return nil
	}
	if depth == 0 {
		return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	if b[0] == '[' {
		for v := range elements(b) {
			if err := inspect(v, depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	list, err := members(b)
	if err != nil {
		return err
	}
	for _, m := range list {
		if err := inspect(m.value, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// eachString calls fn for every string value within a valid value, keys left out.
func eachString(b []byte, fn func(string)) {
	if len(b) == 0 {
		return
	}
	switch b[0] {
	case '"':
		fn(unquote(b))
	case '[':
		for v := range elements(b) {
			eachString(v, fn)
		}
	case '{':
		list, _ := members(b) // Parse refused doubled keys
		for _, m := range list {
			eachString(m.value, fn)
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd is the index after the value that starts at i of valid JSON.
func valueEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 {
				return i // a number or word ended by its container
			}
		case ',', ' ', '\t', '\n', '\r', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringEnd is the index after the string whose opening quote is at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func unquote(b []byte) string {
	if len(b) >= 2 && bytes.IndexByte(b, '\\') < 0 {
		return string(b[1 : len(b)-1])
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	return s
}

// quote writes s as JSON without the HTML escapes of encoding/json: other parsers read them, people do not.
func quote(s string) json.RawMessage {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return json.RawMessage(`""`) // a string always encodes
	}
	return json.RawMessage(bytes.TrimSpace(out.Bytes()))
}
