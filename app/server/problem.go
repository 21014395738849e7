package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// Problem is an error as RFC 9457 writes it, with our stable code.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Code is the machine word; the table in the API description lists every one.
	Code string `json:"code"`
	// Errors name the wrong fields.
	Errors []models.FieldError `json:"errors,omitempty"`
	// NodeErrors is in the engine's own shape: node id → errors.
	NodeErrors json.RawMessage `json:"node_errors,omitempty"`
	RequestID  string          `json:"request_id,omitempty"`
}

// ErrorPage writes a problem for a person's browser.
type ErrorPage func(c *fiber.Ctx, p Problem) error

// SetErrorPage is how problems outside /v1 look to a browser. Call it before Serve.
func (s *Server) SetErrorPage(page ErrorPage) { s.errorPage = page }

// statuses is the one map from code to status. A code that is not here is internal.
var statuses = map[models.Code]int{
	models.CodeInvalid:     http.StatusBadRequest,
	models.CodeUnprocessed: http.StatusUnprocessableEntity,
	models.CodeNotFound:    http.StatusNotFound,
	models.CodeConflict:    http.StatusConflict,
	models.CodeUnauth:      http.StatusUnauthorized,
	models.CodeForbidden:   http.StatusForbidden,
	models.CodeQuota:       http.StatusPaymentRequired,
	models.CodeTooLarge:    http.StatusRequestEntityTooLarge,
	models.CodeEncoding:    http.StatusUnsupportedMediaType,
	models.CodeLimited:     http.StatusTooManyRequests,
	models.CodeUnavailable: http.StatusServiceUnavailable,
	models.CodeFull:        http.StatusInsufficientStorage,
	models.CodeInternal:    http.StatusInternalServerError,
}

// ProblemOf turns an error into what a client may see of it: of an internal one, nothing but that it happened.
func ProblemOf(err error) Problem {
	var e *models.Error
	if errors.As(err, &e) && statuses[e.Code] != 0 && e.Code != models.CodeInternal {
		p := problem(statuses[e.Code], e.ProblemName(), e.Detail)
		p.Errors, p.NodeErrors = e.Fields, e.NodeErrors
		return p
	}
	if errors.Is(err, errStopping) {
		return problem(http.StatusServiceUnavailable, "stopping", errStopping.Error())
	}
	var f *fiber.Error
	if errors.As(err, &f) {
		switch f.Code {
		case http.StatusNotFound:
			return problem(f.Code, "no_such_path", "there is nothing at this path; GET /openapi.json lists what there is")
		case http.StatusMethodNotAllowed:
			return problem(f.Code, "method_not_allowed", "this path does not take this method; the Allow header lists those it takes")
		case http.StatusRequestTimeout:
			return problem(f.Code, "request_timeout", "the request did not arrive in time")
		case http.StatusRequestHeaderFieldsTooLarge:
			return problem(f.Code, "headers_too_large", "the request's headers are larger than "+strconv.Itoa(headerBytes)+" bytes")
		}
		if f.Code >= 400 && f.Code < 500 {
			return problem(http.StatusBadRequest, "bad_request", "the request is not HTTP as it should be")
		}
	}
	return problem(http.StatusInternalServerError, "internal", "something went wrong here; the request id finds it in our log")
}

func problem(status int, code, detail string) Problem {
	return Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// answerError is Fiber's error handler: every error of every route ends here.
func (s *Server) answerError(c *fiber.Ctx, err error) error {
	if s.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errStopping // a stop that cuts a request is no fault of ours
	}
	p := ProblemOf(err)
	if r := requestOf(c); r != nil {
		p.RequestID = r.id
		r.code = p.Code
		if p.Status == http.StatusInternalServerError {
			s.Log.Error("request failed", "request", r.id, "method", c.Method(), "path", c.Path(), "err", err)
		}
	}
	var e *models.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(e.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="comfyfleet", Basic realm="comfyfleet", charset="UTF-8"`)
	}
	if s.errorPage != nil && wantsPage(c) {
		return s.errorPage(c, p)
	}
	return sendProblem(c, p)
}

func sendProblem(c *fiber.Ctx, p Problem) error {
	body, err := EncodeJSON(p)
	if err != nil { // node errors that are not JSON
		p.NodeErrors = nil
		if body, err = EncodeJSON(p); err != nil {
			return err
		}
	}
	c.Status(p.Status)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Send(body)
}

// wantsPage reports whether a problem is for a person: a browser asks for HTML, and no client of the API does.
func wantsPage(c *fiber.Ctx) bool {
	return !strings.HasPrefix(c.Path(), "/v1/") && strings.Contains(c.Get(fiber.HeaderAccept), "text/html")
}
