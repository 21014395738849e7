package jobs

import (
	"encoding/json"

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
	KeyID    string
	Origin   models.Origin

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
	// EstimatedSeconds is until the job is done: 30 until something was measured.
	EstimatedSeconds int
}
