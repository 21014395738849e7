// Package comfy speaks ComfyUI's protocol: HTTP for what is true, the WebSocket for what is new. Client implements
// gpu.Engine for one ComfyUI process; it knows nothing of jobs.
//
// What it relies on, as observed on ComfyUI 0.3.64 and 0.33.0:
//
//   - The client chooses the prompt id (0.3.45 and later). Ids are not deduplicated, and an error of POST /prompt does
//     not mean that the prompt was not queued: Submit says so by wrapping gpu.ErrUnreachable.
//   - A 200 of POST /prompt with node_errors means that some outputs would be left out silently. Submit takes such a
//     prompt back and reports a *gpu.Rejection.
//   - The pending part of /queue is a heap: it is sorted here. Of its tuples only fields 0 to 4 are used.
//   - A node's UI data is free: an object with a string "filename" is a file whatever the key, "text" is text, the
//     rest is ignored.
//   - The server is Python: its JSON may hold NaN and Infinity, which decode turns into null.
//   - A prompt whose UI data cannot be written as JSON makes its history answer 500 until it is deleted: History then
//     returns a *HistoryError.
//   - Events of a prompt go to the socket that was registered under its client id, once. A second socket under the
//     same id makes the first one silent, and closing the first silences the second: Watch closes with a handshake and
//     pauses before it dials again.
//
// Unknown fields, events and frames are ignored: versions differ.
package comfy
