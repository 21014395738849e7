// Package gpu is the fleet: it plans which job goes to which worker, supervises one ComfyUI per card and runs prompts
// on them.
//
// Plan decides and touches nothing. Manager owns the workers; each worker is one goroutine that owns its process, its
// engine connection and its state, and everybody else reads models.Worker snapshots. Execute runs one task on one
// worker and returns how it ended; HTTP is the truth about that, the WebSocket a hint.
//
// The package knows no tenants (they are opaque share groups), no HTTP handlers and no SQL. gpu/comfy speaks to the
// engine, gpu/proc owns one child process, gpu/nvidia reads cards, gpu/sim is the stand-in engine.
package gpu
