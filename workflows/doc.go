// Package workflows knows graphs: ComfyUI's API format, node id → {class_type, inputs}.
//
// Parse reads one and keeps its order and its bytes, so that only what is changed on purpose differs from what the
// client sent. Check holds a graph against node definitions (ParseDefs) before any card is troubled with it; Unsafe
// finds inputs that would read another job's files; Prepare rewrites media names and output prefixes for one attempt.
// Param, Guess, Bind and Schema turn a graph into a form, and Bundled is the collection that comes with the program.
//
// Nothing here does I/O, keeps state or knows jobs and tenants. What a user did wrong is a *models.Error with
// CodeUnprocessed; its names are constants in errors.go.
package workflows
