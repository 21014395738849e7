// Package server is the HTTP edge: everything about HTTP that is not a particular route. Fiber and fasthttp live here and
// in the two packages that register routes, app/api and app/web.
//
//	listener ─ connections are counted, accept errors waited out, every write has a deadline
//	serve    ─ one pass over each request: id, client address, recover, log, security headers
//	Auth     ─ key → auth.Principal, its scope, its rate; before the body is looked at
//	Body     ─ the only way to a request's body: limited, unencoded, each read with a deadline
//	errors   ─ one map from models.Code to status; problem+json, or the dashboard's page
//	settle   ─ a refused body is answered, half-closed and read off, so that the client can read the answer
//	Feed     ─ a stream of news for one client, over SSE or WebSocket
//	SendFile ─ stored bytes with ranges, never as active content
//
// A client that goes away cancels nothing by itself; contexts of requests derive from the server's. Shutdown ends the
// streams first and then waits for the requests.
package server
