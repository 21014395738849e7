// Package auth decides who somebody is: tenants by their API keys, operators by password and session.
//
//	key ──► Keys.Authenticate ──► Principal (tenant, key, scopes)
//	e-mail + password ──► Throttle.Begin, CheckPassword ──► NewSession ──► cookie
//	cookie ──► HashCookie ──► the stored session ──► SessionLive, CSRFValid
//
// Of keys and cookies only SHA-256 sums are kept: both carry 256 random bits, so there is nothing for a slow hash to
// protect. Passwords are argon2id.
//
// The package knows no HTTP and no SQL: the edges carry credentials to it, a small store interface answers it.
package auth
