package lift

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// maxDepth is encoding/json's own limit on nesting. It bounds what path remembers.
const maxDepth = 10000

// path is where in the document the lexer is. Of a document that is not JSON it may be wrong: the rest keeps every byte
// that makes it wrong, so encoding/json refuses it in the end.
type path struct {
	stack []level
	// names are the keys that anybody asks for, by depth. Others are not remembered: a document may have thousands.
	names [][]string
}

// watch makes a path that knows the keys of these fields.
func watch(fields []Field) path {
	var p path
	for _, f := range fields {
		for i, name := range f.Path {
			if i == len(p.names) {
				p.names = append(p.names, nil)
			}
			p.names[i] = append(p.names[i], name)
		}
	}
	return p
}

// level is one open bracket.
type level struct {
	object bool
	// key is the current member of an object as a field spells it, "" for one that nobody asks for; index the current
	// element of an array.
	key   string
	index int
	// wantsKey is true in an object before its next key.
	wantsKey bool
}

// step follows a byte outside strings.
func (p *path) step(c byte) error {
	switch c {
	case '{', '[':
		if len(p.stack) == maxDepth {
			return errTooDeep()
		}
		p.stack = append(p.stack, level{object: c == '{', wantsKey: c == '{'})
	case '}', ']':
		if len(p.stack) > 0 {
			p.stack = p.stack[:len(p.stack)-1]
		}
	case ',':
		if top := p.top(); top != nil {
			top.wantsKey = top.object
			top.index++
		}
	}
	return nil
}

func errTooDeep() error {
	return errorf(Syntax, "", "the document is nested more than %d deep", maxDepth)
}

func (p *path) top() *level {
	if len(p.stack) == 0 {
		return nil
	}
	return &p.stack[len(p.stack)-1]
}

func (p *path) wantsKey() bool {
	top := p.top()
	return top != nil && top.wantsKey
}

// setKey remembers a key, given as written with its quotes. encoding/json matches member names under Unicode case
// folding, and so does EqualFold.
func (p *path) setKey(raw []byte) {
	top := p.top()
	top.wantsKey = false
	top.key = ""
	depth := len(p.stack) - 1
	if depth >= len(p.names) || len(raw) < 2 {
		return
	}
	name := raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		var plain string
		if json.Unmarshal(raw, &plain) != nil {
			return // not JSON: refused in the end
		}
		name = []byte(plain)
	}
	for _, want := range p.names[depth] {
		if bytes.EqualFold(name, []byte(want)) {
			top.key = want
			return
		}
	}
}

// matches reports whether the current value is at pattern.
func (p *path) matches(pattern []string) bool {
	if len(p.stack) != len(pattern) {
		return false
	}
	for i, want := range pattern {
		if !p.stack[i].is(want) {
			return false
		}
	}
	return true
}

// leads reports whether a value at pattern may stand within the innermost bracket.
func (p *path) leads(pattern []string) bool {
	last := len(p.stack) - 1
	if len(pattern) <= last || p.stack[last].object == (pattern[last] == "*") {
		return false
	}
	for i := range last {
		if !p.stack[i].is(pattern[i]) {
			return false
		}
	}
	return true
}

// is reports whether the level's current member is what a pattern has there: its key, or any element of a list.
func (l *level) is(want string) bool {
	if want == "*" {
		return !l.object
	}
	return l.object && l.key == want
}

// field names the current value, which matches pattern.
func (p *path) field(pattern []string) string {
	var b strings.Builder
	for i, name := range pattern {
		switch {
		case name == "*":
			b.WriteString("[" + strconv.Itoa(p.stack[i].index) + "]")
		case i > 0:
			b.WriteString("." + name)
		default:
			b.WriteString(name)
		}
	}
	return b.String()
}
