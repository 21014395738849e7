package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unsafe"
)

// maxOpen bounds how many objects and lists may be open at once: the graph, a node, and maxDepth within it, in the
// wrapping that POST /prompt takes.
const maxOpen = maxDepth + 3

// fewKeys is how many keys of one object are quicker compared with each other than looked up.
const fewKeys = 16

var (
	errNotJSON = errors.New("not JSON")
	errTooDeep = fmt.Errorf("it is nested deeper than %d levels", maxDepth)
)

// span is a part of a document.
type span struct{ start, end int }

// item is a member of an object: where its key, with the quotes, and its value stand, and which items are the members of
// the value when that is an object.
type item struct{ key, value, members span }

// scanner reads a document once: it holds it against RFC 8259, refuses what is nested too deep and names that come twice
// in one object (parsers differ in which of the two counts, so what we check might not be what an engine runs), and notes
// where everything stands.
type scanner struct {
	b []byte
	// items are the members of every object that was read to its end, those of one object side by side.
	items []item
	// open are the members so far of the objects that are being read, by depth.
	open [maxOpen][]item
	// spaced says that there is white space between the values.
	spaced bool
	seen   map[string]bool
}

// scanners are used again: what one has grown to hold is as much as the graphs themselves.
var scanners = sync.Pool{New: func() any { return &scanner{seen: map[string]bool{}} }}

// scan reads the one value that doc is. It answers errNotJSON, errTooDeep, or which key comes twice.
func (s *scanner) scan(doc []byte) (members span, err error) {
	s.b, s.items, s.spaced = doc, s.items[:0], false
	i, members, err := s.value(s.space(0), 0)
	if err == nil && s.space(i) != len(doc) {
		err = errNotJSON
	}
	return members, err
}

// release gives the scanner back. Nothing that it answered may be used after.
func (s *scanner) release() {
	s.b = nil
	clear(s.seen)
	scanners.Put(s)
}

func (s *scanner) value(i, depth int) (end int, members span, err error) {
	if i >= len(s.b) {
		return i, span{}, errNotJSON
	}
	switch s.b[i] {
	case '{':
		return s.object(i, depth)
	case '[':
		end, err = s.array(i, depth)
		return end, span{}, err
	}
	end, ok := validValue(s.b, i, 1)
	if !ok {
		err = errNotJSON
	}
	return end, span{}, err
}

func (s *scanner) object(i, depth int) (end int, members span, err error) {
	if depth >= maxOpen {
		return i, span{}, errTooDeep
	}
	list := s.open[depth][:0]
	if i = s.space(i + 1); s.at(i, '}') {
		return i + 1, span{}, nil
	}
	for more := true; more; {
		if !s.at(i, '"') {
			return i, span{}, errNotJSON
		}
		m := item{key: span{start: i}}
		ok := false
		if i, ok = validString(s.b, i); !ok {
			return i, span{}, errNotJSON
		}
		m.key.end = i
		if i = s.space(i); !s.at(i, ':') {
			return i, span{}, errNotJSON
		}
		m.value.start = s.space(i + 1)
		if i, m.members, err = s.value(m.value.start, depth+1); err != nil {
			return i, span{}, err
		}
		m.value.end = i
		list = append(list, m)
		i, more = s.comma(i)
	}
	s.open[depth] = list
	if !s.at(i, '}') {
		return i, span{}, errNotJSON
	}
	if err := s.doubled(list); err != nil {
		return i, span{}, err
	}
	members = span{len(s.items), len(s.items) + len(list)}
	s.items = append(s.items, list...)
	return i + 1, members, nil
}

func (s *scanner) array(i, depth int) (end int, err error) {
	if depth >= maxOpen {
		return i, errTooDeep
	}
	if i = s.space(i + 1); s.at(i, ']') {
		return i + 1, nil
	}
	for more := true; more; {
		if i, _, err = s.value(i, depth+1); err != nil {
			return i, err
		}
		i, more = s.comma(i)
	}
	if !s.at(i, ']') {
		return i, errNotJSON
	}
	return i + 1, nil
}

// comma steps over a comma and what is blank around it.
func (s *scanner) comma(i int) (next int, more bool) {
	if i = s.space(i); !s.at(i, ',') {
		return i, false
	}
	return s.space(i + 1), true
}

func (s *scanner) at(i int, c byte) bool { return i < len(s.b) && s.b[i] == c }

func (s *scanner) space(i int) int {
	next := skipSpace(s.b, i)
	s.spaced = s.spaced || next != i
	return next
}

// doubled answers an error when a name comes twice.
func (s *scanner) doubled(list []item) error {
	if len(list) > fewKeys {
		clear(s.seen)
		for _, m := range list {
			name := s.name(m)
			if s.seen[name] {
				return s.twice(m)
			}
			s.seen[name] = true
		}
		return nil
	}
	escaped := false
	for i, m := range list {
		key := s.b[m.key.start:m.key.end]
		escaped = escaped || bytes.IndexByte(key, '\\') >= 0
		for _, other := range list[:i] {
			if bytes.Equal(key, s.b[other.key.start:other.key.end]) || escaped && s.name(m) == s.name(other) {
				return s.twice(m)
			}
		}
	}
	return nil
}

func (s *scanner) twice(m item) error {
	return fmt.Errorf("the key %q appears twice in one object", shorten(strings.Clone(s.name(m))))
}

// name is a member's name; it may be a part of the document and is good for as long.
func (s *scanner) name(m item) string { return viewed(s.b[m.key.start:m.key.end]) }

// inspect holds a value against the rules that a graph's values follow. It says "not JSON", too.
func inspect(b []byte) error {
	s := scanners.Get().(*scanner)
	defer s.release()
	_, err := s.scan(b)
	return err
}

// eachString calls fn for every string within a valid value, keys left out.
func eachString(b []byte, fn func(string)) {
	for i := 0; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		end := stringEnd(b, i)
		if next := skipSpace(b, end); next >= len(b) || b[next] != ':' {
			fn(unquote(b[i:end]))
		}
		i = end - 1
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
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

// viewed is what a quoted string means, without a copy where there are no escapes: the string is then a part of b, which
// must not change as long as it is used.
func viewed(b []byte) string {
	if len(b) >= 2 && bytes.IndexByte(b, '\\') < 0 {
		return view(b[1 : len(b)-1])
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	return s
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unquote is viewed with a copy.
func unquote(b []byte) string { return strings.Clone(viewed(b)) }

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
