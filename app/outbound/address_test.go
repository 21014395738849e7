package outbound_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
	"comfyfleet/models"
)

func TestCheckAcceptsPublicAddressesOnly(t *testing.T) {
	c := outbound.New(outbound.Options{})
	for _, good := range []string{
		"https://example.com/a.png?x=1#y", "http://example.com:8443/", "HTTPS://EXAMPLE.COM", "https://93.184.216.34/x",
		"http://[2606:2800:220:1:248:1893:25c8:1946]:8080/", "https://münchen.example/bild.png", "https://1e100.net./",
	} {
		assert.NoError(t, c.Check(good), good)
	}
	for bad, name := range map[string]string{
		"":                                    "bad_url",
		"example.com/a.png":                   "bad_url",
		"ftp://example.com/a.png":             "bad_url",
		"file:///etc/passwd":                  "bad_url",
		"data:image/png;base64,AAAA":          "bad_url",
		"gopher://example.com":                "bad_url",
		"http:example.com":                    "bad_url",
		"http:///a.png":                       "bad_url",
		"http://:80/":                         "bad_url",
		"http://user:pw@example.com/":         "bad_url",
		"http://user@example.com/":            "bad_url",
		"http://example.com:0/":               "bad_url",
		"http://example.com:65536/":           "bad_url",
		"http://example.com:http/":            "bad_url",
		"http://exa mple.com/":                "bad_url",
		"http://example.com/\n":               "bad_url",
		"http://example.com\\@127.0.0.1/":     "bad_url",
		"http://2130706433/":                  "bad_url",
		"http://0x7f000001/":                  "bad_url",
		"http://0X7F.1/":                      "bad_url",
		"http://0177.0.0.1/":                  "bad_url",
		"http://127.1/":                       "bad_url",
		"http://example.127/":                 "bad_url",
		"http://" + strings.Repeat("a", 2048): "bad_url",
		"http://127.0.0.1/":                   "address_refused",
		"http://127.0.0.1.:80/":               "address_refused",
		"http://127.255.255.254:8188/prompt":  "address_refused",
		"http://10.0.0.1/":                    "address_refused",
		"http://172.16.5.4/":                  "address_refused",
		"http://192.168.1.1/":                 "address_refused",
		"http://100.64.0.1/":                  "address_refused",
		"http://0.0.0.0/":                     "address_refused",
		"http://224.0.0.1/":                   "address_refused",
		"http://255.255.255.255/":             "address_refused",
		"http://169.254.169.254/latest/":      "address_refused",
		"http://[::1]/":                       "address_refused",
		"http://[::]/":                        "address_refused",
		"http://[::ffff:127.0.0.1]/":          "address_refused",
		"http://[::ffff:7f00:1]/":             "address_refused",
		"http://[::ffff:169.254.169.254]/":    "address_refused",
		"http://[64:ff9b::7f00:1]/":           "address_refused",
		"http://[2002:7f00:1::]/":             "address_refused",
		"http://[fe80::1%25eth0]/":            "address_refused",
		"http://[fd00:ec2::254]/":             "address_refused",
		"http://localhost:8188/":              "address_refused",
		"http://LOCALHOST./":                  "address_refused",
		"http://anything.localhost/":          "address_refused",
	} {
		err := c.Check(bad)
		var e *models.Error
		require.ErrorAs(t, err, &e, bad)
		assert.Equal(t, models.CodeInvalid, e.Code, bad)
		assert.Equal(t, name, e.Name, "%s: %s", bad, e.Detail)
	}
}

func TestAllowedRangesAreReachableAndNoOthers(t *testing.T) {
	c := outbound.New(outbound.Options{Allow: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"),
	}})
	for _, good := range []string{"http://127.0.0.1:1/", "http://localhost/", "http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://[fd00:1::5]/"} {
		assert.NoError(t, c.Check(good), good)
	}
	for _, bad := range []string{"http://10.2.0.1/", "http://[::1]/", "http://[fd00:2::5]/", "http://169.254.169.254/"} {
		assert.Error(t, c.Check(bad), bad)
	}
}

func FuzzCheckNeverLetsALiteralInternalAddressThrough(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1/", "http://[::1]:80", "https://0x7f.0.0.1", "http://a@b", "//127.0.0.1"} {
		f.Add(seed)
	}
	c := outbound.New(outbound.Options{})
	f.Fuzz(func(t *testing.T, address string) {
		if c.Check(address) != nil {
			return
		}
		lower := strings.ToLower(address)
		if !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") {
			t.Fatalf("accepted %q", address)
		}
		authority, _, _ := strings.Cut(strings.SplitN(lower, "//", 2)[1], "/")
		for _, inside := range []string{"127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "[::1]", "localhost"} {
			if authority == inside || strings.HasPrefix(authority, inside+":") {
				t.Fatalf("accepted %q", address)
			}
		}
	})
}
