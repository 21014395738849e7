package lift

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"comfyfleet/workflows"
)

// Lift reads a JSON document to its end. rest is the document with the lifted strings replaced by their marks; it is
// valid JSON exactly when the document was. On an error lifted holds what was taken out so far.
func Lift(r io.Reader, o Options) (rest []byte, lifted []Lifted, err error) {
	l := &lifter{o: o, in: newSource(r, o.MaxTotal), nonce: rand.Text(), path: watch(o.Fields)}
	defer l.in.close()
	err = l.run()
	return l.rest, l.lifted, err
}

type lifter struct {
	o      Options
	in     *source
	nonce  string
	rest   []byte
	path   path
	lifted []Lifted
}

// run copies the document to the rest, following its brackets, and hands strings over.
func (l *lifter) run() error {
	for {
		w, err := l.in.window()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, past := 0, false
		for n < len(w) && w[n] != '"' && !past {
			switch w[n] {
			case '{', '[':
				if err := l.path.step(w[n]); err != nil {
					return err
				}
				past = !l.leads()
			case '}', ']', ',':
				if err := l.path.step(w[n]); err != nil {
					return err
				}
			}
			n++
		}
		if err := l.keep(w[:n]); err != nil {
			return err
		}
		l.in.advance(n)
		switch {
		case past:
			err = l.skip()
		case n < len(w):
			l.in.advance(1) // the quote
			err = l.value()
		}
		if err != nil {
			return err
		}
	}
}

// leads reports whether a string to lift may stand within the bracket that was just opened.
func (l *lifter) leads() bool {
	return slices.ContainsFunc(l.o.Fields, func(f Field) bool { return l.path.leads(f.Path) })
}

// skip copies what the last bracket encloses, and the bracket that closes it. Most of a request is a graph, in which
// nothing is lifted: only its strings and brackets are followed.
func (l *lifter) skip() error {
	depth, quoted, escaped := 1, false, false
	for depth > 0 {
		w, err := l.in.window()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n := 0
		for n < len(w) && depth > 0 {
			if quoted {
				end, ended := stringEnd(w[n:], &escaped)
				n += end
				quoted = !ended
				continue
			}
			switch w[n] {
			case '"':
				quoted = true
			case '{', '[':
				if depth++; len(l.path.stack)+depth > maxDepth+1 {
					return errTooDeep()
				}
			case '}', ']':
				depth--
			}
			n++
		}
		if err := l.keep(w[:n]); err != nil {
			return err
		}
		l.in.advance(n)
	}
	return l.path.step('}')
}

// value handles a string whose opening quote was just read: a key, a string to lift, or any other.
func (l *lifter) value() error {
	if l.path.wantsKey() {
		start := len(l.rest)
		if err := l.copyString(); err != nil {
			return err
		}
		l.path.setKey(l.rest[start:])
		return nil
	}
	for _, f := range l.o.Fields {
		if l.path.matches(f.Path) {
			return l.lift(f)
		}
	}
	return l.copyString()
}

// copyString copies the rest of a string, with both quotes. A document that ends inside it is for encoding/json to refuse.
func (l *lifter) copyString() error {
	if err := l.keep([]byte{'"'}); err != nil {
		return err
	}
	escaped := false
	for {
		w, err := l.in.window()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, ended := stringEnd(w, &escaped)
		if err := l.keep(w[:n]); err != nil {
			return err
		}
		l.in.advance(n)
		if ended {
			return nil
		}
	}
}

// stringEnd is how much of w belongs to a string: up to and with its closing quote when that is in w.
func stringEnd(w []byte, escaped *bool) (n int, ended bool) {
	i := 0
	if *escaped && len(w) > 0 {
		i, *escaped = 1, false // an escaped quote ends nothing
	}
	for ; i < len(w); i++ {
		if i = workflows.SkipPlain(w, i); i == len(w) {
			break
		}
		switch w[i] {
		case '"':
			return i + 1, true
		case '\\':
			if i++; i == len(w) {
				*escaped = true
				return i, false
			}
		}
	}
	return len(w), false
}

// lift takes out one string, unless it is short enough to stay.
func (l *lifter) lift(f Field) error {
	head, stays, err := l.head(f.Over)
	if err != nil {
		return err
	}
	if stays {
		return l.keep(head)
	}
	field := l.path.field(f.Path)
	if len(l.lifted) >= l.o.MaxItems {
		return errorf(TooManyItems, field, "is one file too many: at most %d in one request", l.o.MaxItems)
	}
	sink, err := l.o.Sink(field)
	if err != nil {
		return err
	}
	item := Lifted{Mark: fmt.Sprintf("%s:%d", l.nonce, len(l.lifted)), Field: field, Sink: sink}
	d := newDecoder(sink, field, l.o.MaxItem)
	err = l.decode(d, head)
	item.Size = d.size
	if err == nil && d.bad != nil {
		if item.Err = d.bad; !f.Lenient {
			err = d.bad
		}
	}
	l.lifted = append(l.lifted, item)
	if err != nil {
		return err
	}
	return l.keep([]byte(`"` + item.Mark + `"`))
}

// head reads up to over bytes of a string. stays says that it ended within them: head is then the whole of it, quotes
// and all.
func (l *lifter) head(over int) (head []byte, stays bool, err error) {
	if over == 0 {
		return nil, false, nil
	}
	var b bytes.Buffer
	b.WriteByte('"')
	escaped := false
	for b.Len() <= over {
		w, err := l.in.window()
		if errors.Is(err, io.EOF) {
			return b.Bytes(), true, nil // unfinished: encoding/json will say so
		}
		if err != nil {
			return nil, false, err
		}
		w = w[:min(len(w), over+2-b.Len())] // over bytes and the closing quote
		n, ended := stringEnd(w, &escaped)
		b.Write(w[:n])
		l.in.advance(n)
		if ended {
			return b.Bytes(), true, nil
		}
	}
	return b.Bytes()[1:], false, nil
}

// decode feeds head and then the rest of the string to d. A lenient field goes on past what is not base64, because the
// string must be JSON all the same.
func (l *lifter) decode(d *decoder, head []byte) error {
	if _, _, err := d.write(head); err != nil {
		return err
	}
	for {
		w, err := l.in.window()
		if errors.Is(err, io.EOF) {
			return errorf(Syntax, "", "the document ends inside a string")
		}
		if err != nil {
			return err
		}
		n, ended, err := d.write(w)
		if err != nil {
			return err
		}
		l.in.advance(n)
		if ended {
			return nil
		}
	}
}

func (l *lifter) keep(b []byte) error {
	if int64(len(l.rest)+len(b)) > l.o.MaxRest {
		return errorf(RestTooLarge, "", "the request is larger than %d bytes, not counting media", l.o.MaxRest)
	}
	if l.rest == nil {
		// What comes first says whether the document is small; else a graph takes most of a window.
		l.rest = make([]byte, 0, 512)
		if l.in.end > cap(l.rest) {
			l.rest = make([]byte, 0, windowSize)
		}
	}
	l.rest = append(l.rest, b...)
	return nil
}
