// Package sim is a stand-in for ComfyUI: a server that speaks its HTTP and WebSocket protocol (version 0.33) closely
// enough that neither gpu/comfy nor a ComfyUI client library can tell, and that needs no card, no Python and no models.
//
// What a CPU can do is done: images are loaded, scaled, blended, masked and saved for real. What needs a model takes
// configurable time, emits steps and previews, and ends in a picture or an animation that is derived from prompt, seed
// and input image and visibly marked "simulated".
//
// One Server is one ComfyUI process. Its parts follow ComfyUI's own: a queue ordered by (number, prompt id), one worker
// goroutine that executes one prompt after the other, a cache of node outputs by content signature, a history, and a
// hub that publishes WebSocket events in order from one goroutine. Quirks are kept on purpose, above all the ones that
// hurt a supervisor: ids that are not deduplicated, an interrupt that is lost before a prompt has started, history that
// appears after execution_success, a second socket that goes silent when the first one closes.
//
// Faults (see Faults) and Sim* test nodes (Options.TestNodes) make it fail in every way that ComfyUI was seen to fail.
// The journal (Options.Journal) is an append-only record of what was really executed, written before the matching
// WebSocket event, so that a test can count executions whatever the supervisor believes.
package sim
