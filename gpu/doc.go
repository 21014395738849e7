// Package gpu is the fleet: it plans which job goes to which worker, supervises one ComfyUI per card and runs prompts
// on them.
//
// Plan decides and touches nothing. Manager owns the workers; each worker is one goroutine that owns its process, its
// engine connection and its state, and everybody else reads models.Worker snapshots. Execute runs one task on one
// worker and returns how it ended; HTTP is the truth about that, the WebSocket a hint.
//
//	            Start, adoption               HTTP answers
//	stopped ───────────────────▶ starting ───────────────────▶ ready ◀──▶ busy
//	   ▲                            ▲  │                          │ drain, disable, wear
//	   │ idle                       │  │ ended                    ▼
//	stopping ◀───────────────────── │ ─│───────────────────── draining
//	   │ asked: at once             │  ▼
//	   └───────────────────────▶ backoff ──▶ quarantined (ended too often, or a flag was refused)
//
// A session is the time in which one engine process answers; prompts run on a session and are told why it ended. What
// they make of that is theirs (execution): the prompt that executed has failed with its worker, one that waited goes
// back, and a server that stops with "keep" leaves both to the next one.
//
// Who waits for whom: a prompt may wait for its worker's goroutine (worker.do), never the reverse. The socket's
// goroutine waits for nobody.
//
// The package knows no tenants (they are opaque share groups), no HTTP handlers and no SQL. gpu/comfy speaks to the
// engine, gpu/proc owns one child process, gpu/nvidia reads cards, gpu/sim is the stand-in engine.
package gpu
