// Package proc owns one child process: it starts it, follows it, ends it, and finds it again after a restart of the
// server.
//
// A worker must outlive the server that started it, so nothing ties the two together: the worker has its own session,
// its output goes to a file, and a state file beside it says which process it is. A small shim of ours (ShimMain, the
// hidden command "run-worker") stays its parent, because only a parent is told how a process ended:
//
//	server ──starts──▶ shim (own session) ──starts──▶ worker (own group)
//	   │                 │ rotates the log, forwards SIGINT and SIGTERM,
//	   │                 │ writes the exit record when the worker ends
//	   └── reads ◀── state file, exit record, log
//
// A process is named by its number and its start time, and by the boot they belong to: numbers are reused. Every
// handle is a pidfd that was opened first and compared afterwards, so that what is signalled is what was compared.
//
// Without a shim (Spec.Shim empty) the worker is a direct child; it still survives the server, but the next server
// cannot learn how it ended (Exit.Seen is false).
//
// What the package writes, beside Spec.StateFile:
//
//	state.json        which processes these are (mode 0600)
//	state.json.exit   how the worker ended, by the shim
//	state.json.lock   held by the shim (flock) while it lives
//
// The package is for Linux: pidfd, /proc, sessions.
package proc
