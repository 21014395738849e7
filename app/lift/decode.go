package lift

import (
	"encoding/base64"
	"io"
	"strings"
)

// maxMediaType bounds what stands between "data:" and the comma.
const maxMediaType = 256

// Classes of the bytes of a string, as written in JSON.
const (
	classOther   = iota // no base64; JSON allows it
	classBase64         // one of the 64
	classSpace          // ignored
	classPad            // =
	classEscape         // backslash
	classQuote          // the end
	classControl        // JSON forbids it
)

var classes = makeClasses()

func makeClasses() (t [256]byte) {
	for c := range 0x20 {
		t[c] = classControl
	}
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = classBase64
	}
	t[' '], t['='], t['\\'], t['"'] = classSpace, classPad, classEscape, classQuote
	return t
}

// decoder turns the inside of a JSON string, as written, into the bytes that it holds in base64: standard alphabet,
// padding optional, white space ignored, a "data:…;base64," before it allowed.
type decoder struct {
	sink  io.Writer
	field string
	size  int64
	limit int64
	// bad is why the string is not base64. It is then only read to its end.
	bad *Error

	escape byte // 0, or the state of an escape: '\\' after the backslash, 'u' among the four digits
	digits int  // of \uXXXX still to come
	char   rune // of \uXXXX so far

	start []byte // what may be, or is, the beginning of a data: URL
	stage stage

	carry   [4]byte // characters of an unfinished group of four
	carried int
	pads    int
	out     []byte
}

type stage int

const (
	stageStart stage = iota // it may be a data: URL
	stageURL                // it is one; its comma has not come
	stageData
)

func newDecoder(sink io.Writer, field string, limit int64) *decoder {
	return &decoder{sink: sink, field: field, limit: limit, out: make([]byte, base64.RawStdEncoding.DecodedLen(windowSize))}
}

// write takes the next bytes of the string, up to and with its closing quote: n is how many it took. An error is one of
// the document or the sink; that the string is not base64 is in bad.
func (d *decoder) write(w []byte) (n int, ended bool, err error) {
	for n < len(w) {
		if d.escape == 0 && d.stage == stageData && d.pads == 0 && d.bad == nil {
			run := n
			for run < len(w) && classes[w[run]] == classBase64 {
				run++
			}
			if err := d.base64(w[n:run]); err != nil {
				return n, false, err
			}
			if n = run; n == len(w) {
				break
			}
		}
		c := w[n]
		n++
		if d.escape != 0 {
			err = d.escaped(c)
		} else {
			switch classes[c] {
			case classQuote:
				return n, true, d.finish()
			case classEscape:
				d.escape = '\\'
			case classControl:
				err = errorf(Syntax, "", "invalid character %q in a string", c)
			default:
				err = d.character(c)
			}
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// escaped takes a byte of an escape sequence.
func (d *decoder) escaped(c byte) error {
	if d.escape == 'u' {
		digit := strings.IndexByte("0123456789abcdef", c|0x20)
		if c < '0' || digit < 0 {
			return errorf(Syntax, "", "invalid character %q in \\u escape", c)
		}
		d.char = d.char<<4 | rune(digit)
		if d.digits--; d.digits > 0 {
			return nil
		}
		d.escape = 0
		if d.char > 0x7f {
			return d.character(0x7f) // anything that is not base64
		}
		return d.character(byte(d.char))
	}
	d.escape = 0
	switch c {
	case 'u':
		d.escape, d.digits, d.char = 'u', 4, 0
		return nil
	case '"', '\\', '/':
		return d.character(c)
	case 'b', 'f':
		return d.character(0x7f)
	case 'n', 'r', 't':
		return d.character(' ')
	}
	return errorf(Syntax, "", "invalid escape \\%c in a string", c)
}

// character takes one character of the string's value.
func (d *decoder) character(c byte) error {
	if d.bad != nil {
		return nil
	}
	switch d.stage {
	case stageStart:
		const scheme = "data:"
		d.start = append(d.start, c)
		if !strings.EqualFold(string(d.start), scheme[:len(d.start)]) {
			return d.noURL()
		}
		if len(d.start) == len(scheme) {
			d.stage = stageURL
		}
		return nil
	case stageURL:
		if c != ',' {
			if d.start = append(d.start, c); len(d.start) > maxMediaType {
				d.refuse("is a data: URL without a comma")
			}
			return nil
		}
		if !strings.HasSuffix(strings.ToLower(string(d.start)), ";base64") {
			d.refuse("is a data: URL that does not say ;base64")
		}
		d.stage = stageData
		return nil
	}
	return d.data(c)
}

// noURL takes what looked like the beginning of a data: URL as data.
func (d *decoder) noURL() error {
	start := d.start
	d.stage, d.start = stageData, nil
	for _, c := range start {
		if err := d.data(c); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) data(c byte) error {
	switch {
	case d.bad != nil:
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
	case c == '=':
		if d.pads++; d.pads > 2 {
			d.refuse("is not base64: too much padding")
		}
	case d.pads > 0:
		d.refuse("is not base64: data after the padding")
	case classes[c] != classBase64:
		d.refuse("is not base64: it has a character that base64 does not use")
	default:
		return d.base64([]byte{c})
	}
	return nil
}

// base64 takes characters of the alphabet and writes what they decode to.
func (d *decoder) base64(run []byte) error {
	if d.carried > 0 {
		n := copy(d.carry[d.carried:], run)
		d.carried += n
		run = run[n:]
		if d.carried < 4 {
			return nil
		}
		d.carried = 0
		if err := d.emit(d.carry[:]); err != nil {
			return err
		}
	}
	whole := len(run) &^ 3
	d.carried = copy(d.carry[:], run[whole:])
	return d.emit(run[:whole])
}

func (d *decoder) emit(group []byte) error {
	if len(group) == 0 {
		return nil
	}
	n, err := base64.RawStdEncoding.Decode(d.out, group)
	if err != nil {
		return errorf(Encoding, d.field, "is not base64: %v", err) // not reached: the alphabet was checked
	}
	if d.size += int64(n); d.size > d.limit {
		return errorf(ItemTooLarge, d.field, "is larger than %d bytes", d.limit)
	}
	_, err = d.sink.Write(d.out[:n])
	return err
}

// finish ends the string.
func (d *decoder) finish() error {
	if d.bad != nil {
		return nil
	}
	if d.stage == stageStart {
		if err := d.noURL(); err != nil {
			return err
		}
	}
	switch {
	case d.bad != nil:
	case d.stage == stageURL:
		d.refuse("is a data: URL without a comma")
	case d.carried == 1, d.pads > 0 && d.carried+d.pads != 4:
		d.refuse("is not base64: it is cut off")
	case d.carried > 0:
		last := d.carry[:d.carried]
		d.carried = 0
		return d.emit(last)
	}
	return nil
}

func (d *decoder) refuse(detail string) { d.bad = errorf(Encoding, d.field, "%s", detail) }
