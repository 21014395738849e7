package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"comfyfleet/app/storage"
	"comfyfleet/models"
)

// Limits of one submission.
const (
	MaxMedia          = 10
	MaxMediaBytes     = 50 << 20
	MaxMetadataBytes  = 16 << 10
	MaxInputs         = 1000
	MaxTimeoutSeconds = 7 * 24 * 3600
	// MaxGraphBytes bounds the graph as sent; the engine's own body limit is 100 MB.
	MaxGraphBytes = 4 << 20
)

// Submission is one parsed request to run a graph. Exactly one of Workflow and WorkflowID is set.
type Submission struct {
	TenantID string
	// Tenant is the tenant as its key was authorised, nil to read it: a submission needs its rules.
	Tenant *models.Tenant
	KeyID  string
	Origin models.Origin

	Workflow   json.RawMessage
	WorkflowID string // slug, slug@3, slug@alias
	Params     map[string]json.RawMessage

	Inputs         []Input
	Media          []Media
	WebhookURL     string
	Priority       int
	Metadata       json.RawMessage
	TimeoutSeconds int
	IdempotencyKey string
	// ExtraPNGInfo is embedded in output files; nil for none.
	ExtraPNGInfo json.RawMessage
}

// Input overrides one field of one node.
type Input struct {
	Node  string
	Field string
	// Value is JSON for type raw, and unused for the image types: their bytes are in Blob or come from URL.
	Value json.RawMessage
	Type  string // raw, image_base64, image_url
	Blob  *storage.Blob
	URL   string
}

// Media is one input medium: Blob when it came with the request, URL when it is to be fetched.
type Media struct {
	Name string
	Blob *storage.Blob
	URL  string
}

// Accepted is what Submit answers.
type Accepted struct {
	Job models.Job
	// Replayed says that an Idempotency-Key matched an earlier request: Job is that one's.
	Replayed bool
}

// Types of Input.
const (
	InputRaw         = "raw"
	InputImageBase64 = "image_base64"
	InputImageURL    = "image_url"
)

// blobs are the ids of everything that came with the request.
func (s *Submission) blobs() []string {
	var ids []string
	for _, m := range s.Media {
		if m.Blob != nil {
			ids = append(ids, m.Blob.ID)
		}
	}
	for _, in := range s.Inputs {
		if in.Blob != nil {
			ids = append(ids, in.Blob.ID)
		}
	}
	return ids
}

// check refuses what needs no look at the graph.
func (s *Submission) check(addresses Fetcher) error {
	if err := s.checkSource(); err != nil {
		return err
	}
	if err := s.checkMedia(addresses); err != nil {
		return err
	}
	if err := s.checkInputs(addresses); err != nil {
		return err
	}
	if s.Priority < models.MinPriority || s.Priority > models.MaxPriority {
		return models.FieldErrorf(models.CodeInvalid, "bad_priority", "priority", "must be between %d and %d", models.MinPriority, models.MaxPriority)
	}
	if s.TimeoutSeconds < 0 || s.TimeoutSeconds > MaxTimeoutSeconds {
		return models.FieldErrorf(models.CodeInvalid, "bad_timeout", "timeout_seconds", "must be between 1 and %d", MaxTimeoutSeconds)
	}
	if len(s.Metadata) > MaxMetadataBytes {
		return models.FieldErrorf(models.CodeInvalid, "metadata_too_large", "metadata", "must be at most %d bytes of JSON", MaxMetadataBytes)
	}
	if s.WebhookURL != "" {
		if err := addresses.Check(s.WebhookURL); err != nil {
			return inField(err, "webhook_url")
		}
	}
	return nil
}

func (s *Submission) checkSource() error {
	switch {
	case len(s.Workflow) == 0 && s.WorkflowID == "":
		return models.FieldErrorf(models.CodeInvalid, "no_workflow", "workflow", "is required: a graph in API format (or send workflow_id)")
	case len(s.Workflow) > 0 && s.WorkflowID != "":
		return models.FieldErrorf(models.CodeInvalid, "two_workflows", "workflow_id", "send workflow or workflow_id, not both")
	case len(s.Params) > 0 && s.WorkflowID == "":
		return models.FieldErrorf(models.CodeInvalid, "params_without_workflow_id", "params", "params belong to a workflow_id; use inputs with a raw workflow")
	case len(s.Workflow) > MaxGraphBytes:
		return models.FieldErrorf(models.CodeInvalid, "workflow_too_large", "workflow", "must be at most %d MiB", MaxGraphBytes>>20)
	}
	return nil
}

func (s *Submission) checkMedia(addresses Fetcher) error {
	if len(s.Media) > MaxMedia {
		return models.FieldErrorf(models.CodeInvalid, "too_many_media", "media", "at most %d items, got %d", MaxMedia, len(s.Media))
	}
	seen := map[string]bool{}
	for i, m := range s.Media {
		field := fmt.Sprintf("media[%d]", i)
		switch {
		case m.Name == "":
			return models.FieldErrorf(models.CodeInvalid, "media_without_name", field+".name", "is required: the value that the graph uses for this file")
		case len(m.Name) > 1024:
			return models.FieldErrorf(models.CodeInvalid, "media_name_too_long", field+".name", "must be at most 1024 bytes")
		case seen[m.Name]:
			return models.FieldErrorf(models.CodeInvalid, "media_name_twice", field+".name", "%q is used by an earlier item", m.Name)
		case m.Blob == nil && m.URL == "":
			return models.FieldErrorf(models.CodeInvalid, "media_without_data", field, "%q has neither data nor url", m.Name)
		case m.Blob != nil && m.URL != "":
			return models.FieldErrorf(models.CodeInvalid, "media_twice", field, "%q has both data and url; send one", m.Name)
		}
		seen[m.Name] = true
		if m.URL != "" {
			if err := addresses.Check(m.URL); err != nil {
				return inField(err, field+".url")
			}
		}
	}
	return nil
}

func (s *Submission) checkInputs(addresses Fetcher) error {
	if len(s.Inputs) > MaxInputs {
		return models.FieldErrorf(models.CodeInvalid, "too_many_inputs", "inputs", "at most %d items, got %d", MaxInputs, len(s.Inputs))
	}
	images := len(s.Media)
	for i := range s.Inputs {
		in, field := &s.Inputs[i], fmt.Sprintf("inputs[%d]", i)
		if in.Type == "" {
			in.Type = InputRaw
		}
		switch {
		case in.Node == "":
			return models.FieldErrorf(models.CodeInvalid, "input_without_node", field+".node", "is required")
		case in.Field == "":
			return models.FieldErrorf(models.CodeInvalid, "input_without_field", field+".field", "is required")
		case in.Type == InputRaw && len(in.Value) == 0:
			return models.FieldErrorf(models.CodeInvalid, "input_without_value", field+".value", "is required")
		case in.Type == InputImageBase64 && in.Blob == nil:
			return models.FieldErrorf(models.CodeInvalid, "input_without_value", field+".value", "must be a base64 string")
		case in.Type == InputImageURL:
			if err := addresses.Check(in.URL); err != nil {
				return inField(err, field+".value")
			}
		case in.Type != InputRaw && in.Type != InputImageBase64:
			return models.FieldErrorf(models.CodeInvalid, "bad_input_type", field+".type", "must be raw, image_base64 or image_url")
		}
		if in.Type != InputRaw {
			images++
		}
	}
	if images > MaxMedia {
		return models.FieldErrorf(models.CodeInvalid, "too_many_media", "inputs", "at most %d media and image inputs together, got %d", MaxMedia, images)
	}
	return nil
}

// fingerprint identifies the parsed submission for Idempotency-Key: the same request sent as JSON or as multipart, with
// other white space or another order of keys, has the same one.
func (s *Submission) fingerprint() (string, error) {
	type file struct{ Name, SHA256, URL string }
	type input struct {
		Node, Field, Type string
		Value             any
		File              file
	}
	var parts struct {
		Workflow, Params, Metadata any
		WorkflowID                 string
		Inputs                     []input
		Media                      []file
		WebhookURL                 string
		Priority, TimeoutSeconds   int
	}
	var err error
	canonical := func(raw []byte) (v any) {
		if len(raw) == 0 || err != nil {
			return nil
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber() // 64-bit seeds do not survive a float
		err = d.Decode(&v)
		return v
	}
	of := func(name string, b *storage.Blob, url string) file {
		f := file{Name: name, URL: url}
		if b != nil {
			f.SHA256 = b.SHA256
		}
		return f
	}
	parts.Workflow, parts.Metadata = canonical(s.Workflow), canonical(s.Metadata)
	parts.WorkflowID, parts.WebhookURL, parts.Priority, parts.TimeoutSeconds = s.WorkflowID, s.WebhookURL, s.Priority, s.TimeoutSeconds
	if len(s.Params) > 0 {
		params := map[string]any{}
		for k, v := range s.Params {
			params[k] = canonical(v)
		}
		parts.Params = params
	}
	for _, in := range s.Inputs {
		parts.Inputs = append(parts.Inputs, input{in.Node, in.Field, in.Type, canonical(in.Value), of("", in.Blob, in.URL)})
	}
	for _, m := range s.Media {
		parts.Media = append(parts.Media, of(m.Name, m.Blob, m.URL))
	}
	if err != nil {
		return "", models.Errorf(models.CodeInvalid, "malformed_json", "the request holds a value that is not JSON")
	}
	b, err := json.Marshal(parts) // map keys come out sorted
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// remembered is what "run again with changes" needs: inputs and params without file contents.
func (s *Submission) remembered() []byte {
	type input struct {
		Node  string          `json:"node"`
		Field string          `json:"field"`
		Type  string          `json:"type,omitempty"`
		Value json.RawMessage `json:"value,omitempty"`
	}
	var r struct {
		Inputs []input                    `json:"inputs,omitempty"`
		Params map[string]json.RawMessage `json:"params,omitempty"`
	}
	for _, in := range s.Inputs {
		r.Inputs = append(r.Inputs, input{in.Node, in.Field, in.Type, in.Value})
	}
	r.Params = s.Params
	if len(r.Inputs) == 0 && len(r.Params) == 0 {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil // a raw value that is not JSON was refused before
	}
	return b
}
