// Package api is the /v1 JSON interface for tenants, one file a noun. openapi.yaml describes it; a test holds every
// request and answer of the other tests against that document.
//
//	submit.go     POST /v1/jobs              request.go (JSON), form.go (multipart), uploads.go (what came with it), wait.go
//	job.go        GET /v1/jobs/{id}          status.go (the status object), document.go (base64 while it is sent)
//	jobs.go       GET /v1/jobs               cursor.go
//	cancel.go     DELETE /v1/jobs/{id}
//	follow.go     GET …/events and …/ws      topic.go (what all followers of a job share), message.go (how it is written)
//	outputs.go    GET /v1/outputs/{id}       signer.go
//	workflows.go, usage.go, health.go, docs.go (description.go reads the document for the page)
//
// The guide's words differ from ours: succeeded is "completed"; failed, canceled and expired are "failed".
package api
