// Package models says what the things of comfyfleet are: jobs, attempts, events, outputs, tenants, keys, operators,
// workflows, workers and webhook deliveries, with their states, rules and errors.
//
// It holds no behaviour that needs a clock, a network or a database; models/store keeps these things, gpu runs
// them, app/jobs moves them from state to state.
//
//	queued ──► running ──► succeeded | failed | canceled
//	   ▲          │
//	   └──────────┘ attempt lost to the infrastructure
//	queued ──► canceled | expired | failed
//
// Times are UTC with microseconds. Durations are stored as milliseconds.
package models
