// Package outbound is the one HTTP client for addresses that tenants give us: media to fetch, webhooks to call.
//
// A tenant must not be able to use this server as a way into the network it stands in. Therefore every connection's
// address is judged after the name was resolved and before a byte is sent, on every redirect anew: what is private,
// loopback, link-local, a cloud's metadata service or otherwise not global is refused, unless the operator allowed its
// range. Because the address that is dialled is the one that was judged, a name that changes its mind between check and
// use (DNS rebinding) gains nothing. Proxy variables are ignored: behind a proxy the check would see only the proxy.
//
// Errors are *models.Error with words for the tenant. They tell an unresolvable name and one that resolves to a private
// address alike, so that nobody can ask us which names exist inside.
package outbound
