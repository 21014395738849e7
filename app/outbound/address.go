package outbound

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"comfyfleet/models"
)

// maxURL is the longest address that is accepted, in bytes.
const maxURL = 2048

// Check judges an address by its form: scheme, host, and literal IP addresses. What a name resolves to is judged at each
// connection. The error is CodeInvalid with words for the tenant.
func (c *Client) Check(address string) error {
	_, err := c.parse(address)
	return err
}

func (c *Client) parse(address string) (*url.URL, error) {
	if len(address) > maxURL {
		return nil, errURL("an address may have %d bytes at most", maxURL)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errURL("not a valid address")
	}
	if err := c.checkURL(u); err != nil {
		return nil, err
	}
	return u, nil
}

// checkURL is Check for what is parsed already; redirects come here too.
func (c *Client) checkURL(u *url.URL) error {
	if s := strings.ToLower(u.Scheme); s != "http" && s != "https" {
		return errURL("must begin with http:// or https://")
	}
	if u.User != nil {
		return errURL("must not hold a user name or password")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "" || u.Opaque != "" {
		return errURL("names no host")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errURL("has no valid port")
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || !c.reachable(ip) {
			return errPrivate()
		}
		return nil
	}
	if strings.Contains(host, ":") || endsInNumber(host) {
		return errURL("write an IP address in its usual form, such as 203.0.113.7 or [2001:db8::7]")
	}
	// RFC 6761: these names never mean another machine.
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		if !c.reachable(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !c.reachable(netip.IPv6Loopback()) {
			return errPrivate()
		}
	}
	return nil
}

func (c *Client) reachable(ip netip.Addr) bool { return c.guard.SafeAddr(ip.Unmap()) == nil }

// endsInNumber reports whether some resolvers would take host for an IPv4 address in a disguise such as 2130706433,
// 0x7f.1 or 0177.0.0.1. It is the rule of the URL standard (https://url.spec.whatwg.org/#ends-in-a-number-checker).
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" {
		return last != ""
	}
	hex, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

func errURL(format string, args ...any) *models.Error {
	return models.Errorf(models.CodeInvalid, "bad_url", format, args...)
}

func errPrivate() *models.Error {
	return models.Errorf(models.CodeInvalid, "address_refused", "private, loopback, link-local and other internal addresses are not allowed")
}
