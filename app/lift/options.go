package lift

import (
	"fmt"
	"io"
)

// Options say what to lift and how much of it.
type Options struct {
	Fields []Field
	// Sink makes the place for the bytes of one string. field is where it stood, e.g. "media[1].data". Lift never
	// closes a sink: the caller keeps those it made, also when Lift fails.
	Sink func(field string) (io.Writer, error)
	// MaxItems bounds how many strings are lifted, MaxItem the decoded bytes of one.
	MaxItems int
	MaxItem  int64
	// MaxRest bounds the document without the lifted strings, MaxTotal the document as sent.
	MaxRest  int64
	MaxTotal int64
}

// Field chooses strings to lift.
type Field struct {
	// Path is the keys from the top; "*" is any element of an array. Keys match as encoding/json matches them: in any
	// case, escaped or not.
	Path []string
	// Over leaves strings of up to so many bytes (as written, without the quotes) where they are; 0 lifts all.
	Over int
	// Lenient lets Lift go on after a string that is not base64: its Lifted.Err says so. For fields that hold base64
	// only when another field, which may come later, says so.
	Lenient bool
}

// Lifted is one string that was taken out.
type Lifted struct {
	// Mark is the string that stands in the rest instead.
	Mark string
	// Field is where it stood, e.g. "media[1].data".
	Field string
	// Size is the decoded bytes written to Sink.
	Size int64
	Sink io.Writer
	// Err is why a Lenient string is not base64, nil when it is.
	Err error
}

// Kind says what a document was refused for.
type Kind int

const (
	// Syntax means that it is not JSON.
	Syntax Kind = iota
	// Encoding means that a lifted string is not base64.
	Encoding
	// ItemTooLarge means that a lifted string is longer than Options.MaxItem.
	ItemTooLarge
	// TooManyItems means more strings than Options.MaxItems.
	TooManyItems
	// RestTooLarge means that the document without its lifted strings is longer than Options.MaxRest.
	RestTooLarge
	// TotalTooLarge means that the document is longer than Options.MaxTotal.
	TotalTooLarge
)

// Error is a document that Lift refuses. Errors of the reader and of sinks are passed on as they are.
type Error struct {
	Kind Kind
	// Field is where, e.g. "media[1].data"; "" when it is no lifted field.
	Field string
	// Detail is what is wrong, for the client.
	Detail string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

func errorf(kind Kind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Detail: fmt.Sprintf(format, args...)}
}
