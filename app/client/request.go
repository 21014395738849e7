package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Request is one submission. Exactly one of Workflow and WorkflowID is set.
type Request struct {
	Workflow       json.RawMessage            `json:"workflow,omitempty"`
	WorkflowID     string                     `json:"workflow_id,omitempty"`
	Params         map[string]json.RawMessage `json:"params,omitempty"`
	Inputs         []Input                    `json:"inputs,omitempty"`
	WebhookURL     string                     `json:"webhook_url,omitempty"`
	Priority       int                        `json:"priority,omitempty"`
	Metadata       json.RawMessage            `json:"metadata,omitempty"`
	TimeoutSeconds int                        `json:"timeout_seconds,omitempty"`

	Media []Media `json:"-"` // encoded while the request is sent
	// IdempotencyKey makes repeating safe; Submit chooses one when it is empty.
	IdempotencyKey string `json:"-"`
}

// Input overrides one field of one node.
type Input struct {
	Node  string          `json:"node"`
	Field string          `json:"field"`
	Value json.RawMessage `json:"value"`
	Type  string          `json:"type,omitempty"`
}

// Media is one input file: an address to fetch it from, or a way to open it, which is used once for each try.
type Media struct {
	Name string
	URL  string
	Open func() (io.ReadCloser, error)

	encoded *string // already base64, from a file that is a whole request
}

// Accepted is the answer to a submission.
type Accepted struct {
	JobID         string `json:"job_id"`
	Status        string `json:"status"`
	CreatedAt     string `json:"created_at"`
	EstimatedTime int    `json:"estimated_time"` // seconds
}

// Submit sends a job. It may be called again with the same idempotency key after any error.
func (c *Client) Submit(ctx context.Context, r Request) (Accepted, error) {
	if r.IdempotencyKey == "" {
		r.IdempotencyKey = rand.Text()
	}
	head, err := json.Marshal(r)
	if err != nil {
		return Accepted{}, &localError{fmt.Errorf("encode the request: %w", err)}
	}
	var a Accepted
	err = c.retry(ctx, func() error {
		body, finish := r.body(head)
		defer finish()
		req, err := c.request(ctx, http.MethodPost, "/v1/jobs", body)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", r.IdempotencyKey)
		return c.send(req, &a)
	})
	return a, err
}

// body streams the request: head is everything but the media. finish ends the encoder, also when the server did not
// read to the end.
func (r Request) body(head []byte) (body io.Reader, finish func()) {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(r.write(pw, head))
	}()
	return pr, func() {
		pr.Close()
		<-done
	}
}

func (r Request) write(w io.Writer, head []byte) error {
	if len(r.Media) == 0 {
		_, err := w.Write(head)
		return err
	}
	// head is an object that always has a member: the workflow or its id.
	if _, err := fmt.Fprintf(w, "%s,\"media\":[", head[:len(head)-1]); err != nil {
		return err
	}
	for i, m := range r.Media {
		if i > 0 {
			if _, err := io.WriteString(w, ","); err != nil {
				return err
			}
		}
		if err := m.write(w); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "]}")
	return err
}

func (m Media) write(w io.Writer) error {
	name, err := json.Marshal(m.Name)
	if err != nil {
		return err
	}
	if m.URL != "" {
		address, err := json.Marshal(m.URL)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, `{"name":%s,"url":%s}`, name, address)
		return err
	}
	if m.encoded != nil {
		data, err := json.Marshal(*m.encoded)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, `{"name":%s,"data":%s}`, name, data)
		return err
	}
	if _, err := fmt.Fprintf(w, `{"name":%s,"data":"`, name); err != nil {
		return err
	}
	file, err := m.Open()
	if err != nil {
		return &localError{fmt.Errorf("media %s: %w", m.Name, err)}
	}
	defer file.Close()
	enc := base64.NewEncoder(base64.StdEncoding, w)
	// 48 KiB is a multiple of three: the encoder passes it on without keeping a rest.
	if _, err := io.CopyBuffer(struct{ io.Writer }{enc}, readOnly{file, m.Name}, make([]byte, 48<<10)); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(w, `"}`)
	return err
}

// readOnly marks read errors as ours; write errors of the pipe only say that the server had enough.
type readOnly struct {
	r    io.Reader
	name string
}

func (r readOnly) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = &localError{fmt.Errorf("media %s: %w", r.name, err)}
	}
	return n, err
}
