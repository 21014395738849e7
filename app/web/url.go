package web

import (
	"net/url"
	"strings"
)

// withParam adds a query parameter to an address of ours.
func withParam(address, name, value string) string {
	sep := "?"
	if strings.Contains(address, "?") {
		sep = "&"
	}
	return address + sep + name + "=" + url.QueryEscape(value)
}
