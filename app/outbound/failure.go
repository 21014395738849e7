package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"code.dny.dev/ssrf"

	"comfyfleet/models"
)

// describe turns what a request ended with into words for the tenant, and says whether trying again may help.
// The end of ctx stays what it is.
func describe(ctx context.Context, err error) (failure error, again bool) {
	var known *models.Error
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &known): // a redirect that was refused
		return known, false
	case ctx.Err() != nil:
		return ctx.Err(), false
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return errNoHost(), false
	case errors.As(err, &name):
		return errNoHost(), name.IsTemporary || name.IsTimeout
	case untrusted(err):
		return errFetch("the server has no valid TLS certificate for this address", err), false
	case errors.As(err, &timeout) && timeout.Timeout():
		return errFetch("the server did not answer in time", err), true
	default:
		return errFetch("the connection to the server failed", err), true
	}
}

func untrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &authority) || errors.As(err, &host)
}

// errNoHost is the one answer for a name that does not exist and one that leads inside: which of them it is would tell
// a stranger what names our network has.
func errNoHost() *models.Error {
	return models.Errorf(models.CodeInvalid, "address_refused", "the host name does not resolve to a public address")
}

func errFetch(detail string, cause error) *models.Error {
	return &models.Error{Code: models.CodeInvalid, Name: "fetch_failed", Detail: detail, Err: cause}
}
