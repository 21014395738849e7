package workflows

import (
	"encoding/binary"
	"math/bits"
)

// maxValidDepth bounds what validValue follows. No graph comes near: maxDepth refuses it long before.
const maxValidDepth = 500

// FindMember finds the value of an object's first member of that name, spelled exactly so, without decoding anything:
// doc[start:end] is valid JSON. It answers false when doc is no object, has no such member, or is not JSON before it.
func FindMember(doc []byte, name string) (start, end int, ok bool) {
	i := skipSpace(doc, 0)
	if i >= len(doc) || doc[i] != '{' {
		return 0, 0, false
	}
	for {
		key := skipSpace(doc, i+1) // over the brace or the comma
		if key >= len(doc) || doc[key] != '"' {
			return 0, 0, false
		}
		if i, ok = validString(doc, key); !ok {
			return 0, 0, false
		}
		found := string(doc[key+1:i-1]) == name
		if i = skipSpace(doc, i); i >= len(doc) || doc[i] != ':' {
			return 0, 0, false
		}
		start = skipSpace(doc, i+1)
		if end, ok = validValue(doc, start, maxValidDepth); !ok || found {
			return start, end, ok
		}
		if i = skipSpace(doc, end); i >= len(doc) || doc[i] != ',' {
			return 0, 0, false
		}
	}
}

// validValue follows the value that starts at i and answers the index after it; ok says that it is JSON (RFC 8259) and
// not nested deeper than depth. It takes a fraction of the time of encoding/json.
func validValue(b []byte, i, depth int) (end int, ok bool) {
	if i >= len(b) || depth == 0 {
		return i, false
	}
	switch b[i] {
	case '"':
		return validString(b, i)
	case '{':
		return validObject(b, i, depth)
	case '[':
		return validArray(b, i, depth)
	case 't':
		return validWord(b, i, "true")
	case 'f':
		return validWord(b, i, "false")
	case 'n':
		return validWord(b, i, "null")
	}
	return validNumber(b, i)
}

func validObject(b []byte, i, depth int) (int, bool) {
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1, true
	}
	for i < len(b) && b[i] == '"' {
		ok := false
		if i, ok = validString(b, i); !ok {
			return i, false
		}
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return i, false
		}
		if i, ok = validValue(b, skipSpace(b, i+1), depth-1); !ok {
			return i, false
		}
		if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
			return i + 1, true
		}
		if i >= len(b) || b[i] != ',' {
			return i, false
		}
		i = skipSpace(b, i+1)
	}
	return i, false
}

func validArray(b []byte, i, depth int) (int, bool) {
	if i = skipSpace(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1, true
	}
	for i < len(b) {
		ok := false
		if i, ok = validValue(b, i, depth-1); !ok {
			return i, false
		}
		if i = skipSpace(b, i); i < len(b) && b[i] == ']' {
			return i + 1, true
		}
		if i >= len(b) || b[i] != ',' {
			return i, false
		}
		i = skipSpace(b, i+1)
	}
	return i, false
}

func validString(b []byte, i int) (int, bool) {
	for i++; i < len(b); i++ {
		if i = SkipPlain(b, i); i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, true
		case c < ' ':
			return i, false
		case c == '\\':
			if i++; i >= len(b) {
				return i, false
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i >= len(b) || !isHex(b[i]) {
						return i, false
					}
				}
			default:
				return i, false
			}
		}
	}
	return i, false
}

// SkipPlain steps over bytes of a JSON string that mean themselves, eight at a time: it stops at the first quote, backslash or
// control character, or less than eight bytes before the end.
func SkipPlain(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		word := binary.LittleEndian.Uint64(b[i:])
		quote, slash := word^ones*'"', word^ones*'\\'
		// The top bit of each byte that is zero, zero, and below a space. What a borrow adds is above the first of them.
		found := (quote-ones)&^quote | (slash-ones)&^slash | (word-ones*' ')&^word
		if found &= tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
		i += 8
	}
	return i
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func validWord(b []byte, i int, word string) (int, bool) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, false
	}
	return i + len(word), true
}

func validNumber(b []byte, i int) (int, bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = digits(b, i)
	if i == start || b[start] == '0' && i > start+1 {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = digits(b, start); i == start {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = digits(b, start); i == start {
			return i, false
		}
	}
	return i, true
}

// digits is the index after the digits that start at i.
func digits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}
