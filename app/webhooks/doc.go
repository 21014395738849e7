// Package webhooks delivers what the database says must be told: the outbox of job.completed and job.failed.
//
// A delivery is a row, written in the transaction that ended its job. Outbox sends it, signed as Standard Webhooks
// (https://www.standardwebhooks.com) ask, and records each attempt. What was sent and not recorded, because the server
// died in between, is sent again under the same webhook-id: receivers get every message at least once, and tell
// repeats by the id.
//
//	pending ──► 2xx ──────────────────────► delivered
//	   │  ▲
//	   │  └── anything else, after a pause that grows
//	   └────► 410 Gone, or the last attempt ► failed ──► Redeliver ──► pending
package webhooks
