// Package web is the dashboard: what operators see and do in a browser.
//
// A handler parses, asks one of the interfaces in deps.go, turns the answer into a props struct of package views
// (present_*.go, pure functions) and sends the page. Pages that change have a stream (live.go): the same presenters
// and components, sent as elements that replace those with the same id, and only when they differ from what the
// browser has.
//
//	routes.go ─ every path, the role it needs, its handler
//	session.go, csrf.go ─ who asks, and whether a page of ours asks
//	one file per page ─ run, overview, jobs, job, workers, worker
//	media.go, files.go ─ input files on their way in, outputs on their way out
//
// Nothing here is a tenant's edge: an operator sees all tenants. What a tenant's string may do to a page is nothing:
// templ escapes it, and outputs are served sandboxed.
package web
