// Package client is a client of the /v1 API, and the command "submit" and the demo's run made of it.
//
// Client sends requests and knows how to wait: a submission carries an idempotency key, so that it can be repeated after
// a lost answer; 429 and 503 are waited out as Retry-After says; Follow listens to the job's events and polls where it
// cannot. Media are encoded while they are sent and outputs are written while they arrive, so that memory stays flat
// whatever their size.
package client
