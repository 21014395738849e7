package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"comfyfleet/app/jobs"
	"comfyfleet/app/lift"
	"comfyfleet/models"
	"comfyfleet/workflows"
)

// maxText is the longest string that an input may set. A longer one must be an image in base64.
const maxText = 64 << 10

// request is the body of POST /v1/jobs. What it does not name is ignored, as the guide's service did.
type request struct {
	Workflow       json.RawMessage            `json:"workflow"`
	WorkflowID     string                     `json:"workflow_id"`
	Params         map[string]json.RawMessage `json:"params"`
	Inputs         []json.RawMessage          `json:"inputs"`
	Media          []json.RawMessage          `json:"media"`
	WebhookURL     string                     `json:"webhook_url"`
	Priority       int                        `json:"priority"`
	Metadata       json.RawMessage            `json:"metadata"`
	TimeoutSeconds *int                       `json:"timeout_seconds"`
}

// readJSON reads a submission from JSON. Base64 goes to blobs while it arrives.
func readJSON(body io.Reader, ups *uploads) (jobs.Submission, error) {
	rest, lifted, err := lift.Lift(body, lift.Options{
		Fields: []lift.Field{
			{Path: []string{"media", "*", "data"}},
			{Path: []string{"inputs", "*", "value"}, Over: maxText, Lenient: true},
		},
		Sink:     func(string) (io.Writer, error) { return ups.create() },
		MaxItems: jobs.MaxMedia, MaxItem: jobs.MaxMediaBytes, MaxRest: maxRest, MaxTotal: maxBody,
	})
	if err != nil {
		return jobs.Submission{}, refused(err)
	}
	r, err := decode(rest)
	if err != nil {
		return jobs.Submission{}, err
	}
	return r.submission(lifted, ups)
}

// decode reads the request. Most of it is the graph, and encoding/json, which would look at every byte of that twice, is
// the slowest part of a submission: it gets a mark in the graph's place.
func decode(body []byte) (r request, err error) {
	const mark = `"the graph stands here"`
	start, end, ok := workflows.FindMember(body, "workflow")
	if ok {
		short := append(make([]byte, 0, len(body)-(end-start)+len(mark)), body[:start]...)
		short = append(append(short, mark...), body[end:]...)
		if err := unmarshal(short, &r, ""); err != nil {
			return r, err
		}
		if string(r.Workflow) == mark {
			r.Workflow = body[start:end]
			return r, nil
		}
		r = request{} // another member of that name came later, and wins
	}
	return r, unmarshal(body, &r, "")
}

// fields are the request's fields by name, for a form that sends them one by one.
func (r *request) fields() map[string]any {
	return map[string]any{
		"workflow": &r.Workflow, "workflow_id": &r.WorkflowID, "params": &r.Params, "inputs": &r.Inputs, "media": &r.Media,
		"webhook_url": &r.WebhookURL, "priority": &r.Priority, "metadata": &r.Metadata, "timeout_seconds": &r.TimeoutSeconds,
	}
}

// submission is the request with what was lifted out of it.
func (r *request) submission(lifted []lift.Lifted, ups *uploads) (jobs.Submission, error) {
	p := parser{ups: ups, byMark: map[string]lift.Lifted{}}
	for _, l := range lifted {
		p.byMark[l.Mark] = l
	}
	sub := jobs.Submission{
		Workflow: present(r.Workflow), WorkflowID: r.WorkflowID, Params: r.Params,
		WebhookURL: r.WebhookURL, Priority: r.Priority, Metadata: present(r.Metadata),
	}
	if r.TimeoutSeconds != nil {
		if sub.TimeoutSeconds = *r.TimeoutSeconds; sub.TimeoutSeconds < 1 {
			return sub, models.FieldErrorf(models.CodeInvalid, "bad_timeout", "timeout_seconds", "must be between 1 and %d", jobs.MaxTimeoutSeconds)
		}
	}
	if sub.Metadata != nil && sub.Metadata[0] != '{' {
		return sub, wrongType("metadata", "an object")
	}
	for i, raw := range r.Media {
		m, err := p.media(raw, fmt.Sprintf("media[%d]", i))
		if err != nil {
			return sub, err
		}
		sub.Media = append(sub.Media, m)
	}
	for i, raw := range r.Inputs {
		in, err := p.input(raw, fmt.Sprintf("inputs[%d]", i))
		if err != nil {
			return sub, err
		}
		sub.Inputs = append(sub.Inputs, in)
	}
	return sub, nil
}

// parser reads the items of a request, taking lifted strings for their marks.
type parser struct {
	ups    *uploads
	byMark map[string]lift.Lifted
}

func (p *parser) media(raw json.RawMessage, field string) (jobs.Media, error) {
	var item struct {
		Name string  `json:"name"`
		Data *string `json:"data"`
		URL  string  `json:"url"`
	}
	if err := unmarshal(raw, &item, field); err != nil {
		return jobs.Media{}, err
	}
	m := jobs.Media{Name: item.Name, URL: item.URL}
	if item.Data == nil {
		return m, nil
	}
	data, ok := p.byMark[*item.Data]
	if !ok {
		return m, models.FieldErrorf(models.CodeInvalid, "malformed_json", field+".data", "must be a string in an object in the list media")
	}
	if data.Size == 0 {
		return m, nil // "" is no data
	}
	blob, err := p.ups.keep(data.Sink)
	m.Blob = blob
	return m, err
}

func (p *parser) input(raw json.RawMessage, field string) (jobs.Input, error) {
	var item struct {
		Node  json.RawMessage `json:"node"`
		Field string          `json:"field"`
		Value json.RawMessage `json:"value"`
		Type  string          `json:"type"`
	}
	if err := unmarshal(raw, &item, field); err != nil {
		return jobs.Input{}, err
	}
	in := jobs.Input{Field: item.Field, Type: item.Type, Value: item.Value}
	var err error
	if in.Node, err = nodeID(present(item.Node), field+".node"); err != nil {
		return in, err
	}
	var text string
	isText := len(item.Value) > 0 && item.Value[0] == '"' && json.Unmarshal(item.Value, &text) == nil
	long, lifted := p.byMark[text]
	lifted = lifted && isText

	switch {
	case in.Type == jobs.InputImageBase64:
		return p.image(in, item.Value, long, lifted, field+".value")
	case lifted:
		return in, models.FieldErrorf(models.CodeUnprocessed, "value_too_long", field+".value", "is longer than %d bytes", maxText)
	case in.Type == jobs.InputImageURL:
		if !isText {
			return in, wrongType(field+".value", "a string")
		}
		in.URL, in.Value = text, nil
	}
	return in, nil
}

// image stores an image that came as an input's value.
func (p *parser) image(in jobs.Input, value json.RawMessage, long lift.Lifted, lifted bool, field string) (jobs.Input, error) {
	in.Value = nil
	if !lifted {
		if len(value) == 0 || value[0] != '"' {
			return in, wrongType(field, "a base64 string")
		}
		w, err := p.ups.create()
		if err != nil {
			return in, err
		}
		_, all, err := lift.Lift(bytes.NewReader(value), lift.Options{
			Fields:   []lift.Field{{Lenient: true}}, // the empty path is the whole document
			Sink:     func(string) (io.Writer, error) { return w, nil },
			MaxItems: 1, MaxItem: jobs.MaxMediaBytes, MaxRest: maxText, MaxTotal: maxRest,
		})
		if err != nil {
			return in, refused(err)
		}
		long = all[0]
	}
	var e *lift.Error
	if errors.As(long.Err, &e) {
		return in, models.FieldErrorf(models.CodeInvalid, "media_not_base64", field, "%s", e.Detail)
	}
	if long.Size == 0 {
		return in, nil // Submit refuses it by name
	}
	blob, err := p.ups.keep(long.Sink)
	in.Blob = blob
	return in, err
}

// nodeID reads a node id: a string, or a whole number, which becomes its digits.
func nodeID(raw json.RawMessage, field string) (string, error) {
	if raw == nil {
		return "", nil // Submit refuses it by name
	}
	var id string
	if raw[0] == '"' {
		return id, unmarshal(raw, &id, field)
	}
	if strings.Trim(string(raw), "-0123456789") != "" {
		return "", wrongType(field, "a string or a whole number")
	}
	return string(raw), nil
}

// present is raw, or nil for null.
func present(raw json.RawMessage) json.RawMessage {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

// unmarshal decodes a part of the request and says what is wrong by the name of its field.
func unmarshal(raw []byte, into any, field string) error {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) {
		return models.Errorf(models.CodeInvalid, "malformed_json", "the body is not JSON: %v", err)
	}
	at := strings.Trim(field+"."+t.Field, ".")
	if at == "" {
		return models.Errorf(models.CodeInvalid, "wrong_type", "the body must be a JSON object, not %s", aKind(t.Value))
	}
	return wrongType(at, kindOf(t))
}

func wrongType(field, want string) error {
	return models.FieldErrorf(models.CodeInvalid, "wrong_type", field, "must be %s", want)
}

func aKind(kind string) string {
	switch kind {
	case "array", "object":
		return "an " + kind
	}
	return "a " + kind
}

// kindOf names the JSON that a field wants.
func kindOf(t *json.UnmarshalTypeError) string {
	switch t.Type.Kind().String() {
	case "string":
		return "a string"
	case "int":
		return "a whole number"
	case "slice":
		return "a list"
	}
	return "an object"
}

// refused says in the API's words why a body could not be lifted. Errors of the body and of storage speak for themselves.
func refused(err error) error {
	var e *lift.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Kind {
	case lift.Encoding:
		return models.FieldErrorf(models.CodeInvalid, "media_not_base64", e.Field, "%s", e.Detail)
	case lift.ItemTooLarge:
		return errMediaTooLarge(e.Field)
	case lift.TooManyItems:
		return models.FieldErrorf(models.CodeInvalid, "too_many_media", e.Field, "is one file too many: at most %d", jobs.MaxMedia)
	case lift.RestTooLarge:
		return models.Errorf(models.CodeTooLarge, "body_too_large", "without its media the body may have %d MiB", maxRest>>20)
	case lift.TotalTooLarge:
		return models.Errorf(models.CodeTooLarge, "body_too_large", "the body may have %d MiB", maxBody>>20)
	}
	return models.Errorf(models.CodeInvalid, "malformed_json", "the body is not JSON: %s", e.Detail)
}
