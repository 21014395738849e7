package models

import (
	"errors"
	"fmt"
)

// Code classifies an error. The HTTP edge has one map from code to status.
type Code string

const (
	CodeInvalid     Code = "invalid"       // 400: malformed request, query or media
	CodeUnprocessed Code = "unprocessable" // 422: well formed, but the graph or inputs cannot run
	CodeNotFound    Code = "not_found"     // 404: unknown, or not yours
	CodeConflict    Code = "conflict"      // 409
	CodeUnauth      Code = "unauthorized"  // 401
	CodeForbidden   Code = "forbidden"     // 403
	CodeQuota       Code = "quota"         // 402
	CodeTooLarge    Code = "too_large"     // 413
	CodeEncoding    Code = "encoding"      // 415
	CodeLimited     Code = "limited"       // 429
	CodeUnavailable Code = "unavailable"   // 503
	CodeFull        Code = "storage_full"  // 507
	CodeInternal    Code = "internal"      // 500: never shown in detail
)

// Error is the one error type that crosses package edges. What is not an *Error is internal.
type Error struct {
	Code Code
	// Name is the stable machine word of the problem, e.g. "media_too_large"; "" means Code itself.
	Name string
	// Detail is what the reader should know and do; shown to tenants, so free of paths and secrets.
	Detail string
	// Fields name what was wrong where.
	Fields []FieldError
	// NodeErrors is the engine's or our own node_errors object as JSON, nil for none.
	NodeErrors []byte
	// RetryAfter is whole seconds for limited and unavailable, 0 for unknown.
	RetryAfter int
	// Err is the cause, for the log only.
	Err error
}

// FieldError names one wrong field of a request.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.ProblemName(), e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.ProblemName(), e.Detail)
}

func (e *Error) Unwrap() error { return e.Err }

// ProblemName is Name, or the code when there is none.
func (e *Error) ProblemName() string {
	if e.Name != "" {
		return e.Name
	}
	return string(e.Code)
}

// Errorf makes an Error. Name is a stable machine word such as "unknown_node"; "" for the code itself.
func Errorf(code Code, name, format string, args ...any) *Error {
	return &Error{Code: code, Name: name, Detail: fmt.Sprintf(format, args...)}
}

// FieldErrorf makes an Error about one field.
func FieldErrorf(code Code, name, field, format string, args ...any) *Error {
	d := fmt.Sprintf(format, args...)
	return &Error{Code: code, Name: name, Detail: field + ": " + d, Fields: []FieldError{{Field: field, Detail: d}}}
}

// ErrorCode is the code of err: "" for nil, CodeInternal for what is not an *Error.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// ErrNotFound is what a look-up answers for what does not exist or belongs to somebody else.
func ErrNotFound(what string) *Error {
	return Errorf(CodeNotFound, "not_found", "no such %s", what)
}

// ErrNotDurable is what the end of an attempt answers when its outputs are not on the disk yet. It leaves no process: who
// asked waits and asks again.
var ErrNotDurable = errors.New("the outputs are not on the disk yet")

// ErrFenced is what a write of an attempt answers when the job has moved on without it.
var ErrFenced = &Error{Code: CodeConflict, Name: "attempt_fenced", Detail: "the job has another attempt or has ended"}
