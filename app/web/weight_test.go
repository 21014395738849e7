package web

import (
	"compress/gzip"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/static"
)

// maxWeight is what the first page may make a browser load, gzipped; pictures that a graph made are not counted.
const maxWeight = 150 << 10

func TestTheFirstPageIsLightAndIsKept(t *testing.T) {
	h := newHouse(t)
	stand(t, h)
	for range jobsPerPage {
		h.add(models.Job{WorkflowSlug: "text-to-image", WorkflowVersion: 3, State: models.JobSucceeded, StartedAt: &h.now, FinishedAt: &h.now})
	}
	for _, page := range []string{"/overview", "/jobs", "/gpus", "/run/text-to-image"} {
		v := h.visit(t, models.RoleOperator)
		fetch := func(url string) reply {
			req := v.request(http.MethodGet, url, "", nil)
			req.Header.Set("Accept-Encoding", "gzip")
			r := v.do(req)
			require.Equal(t, http.StatusOK, r.status, url)
			return r
		}
		first := fetch(page)
		assert.Equal(t, "gzip", first.header.Get("Content-Encoding"), page)
		plain, err := gzip.NewReader(strings.NewReader(first.body))
		require.NoError(t, err)
		d, err := goquery.NewDocumentFromReader(plain)
		require.NoError(t, err)
		total := len(first.body)
		for _, url := range ownFiles(t, d) {
			r := fetch(url)
			assert.Contains(t, r.header.Get("Cache-Control"), "immutable", url)
			total += len(r.body)
		}
		t.Logf("%s: %d kB", page, total>>10)
		assert.Less(t, total, maxWeight, page)
	}
}

// ownFiles are the embedded files that a page loads, with those that they load in turn: fonts, pictures and modules.
func ownFiles(t *testing.T, d *goquery.Document) []string {
	t.Helper()
	var urls []string
	seen := map[string]bool{}
	var add func(url string)
	add = func(url string) {
		url, _, _ = strings.Cut(url, "#")
		name, ours := strings.CutPrefix(url, static.URL(""))
		if !ours || seen[url] {
			return
		}
		seen[url] = true
		urls = append(urls, url)
		f, ok := static.Lookup(name)
		require.True(t, ok, url)
		for _, m := range loads.FindAllSubmatch(f.Body, -1) {
			add(static.URL(path.Join(path.Dir(name), string(m[1])+string(m[2]))))
		}
	}
	for selector, attr := range map[string]string{"link[rel=stylesheet], link[rel=icon]": "href", "script[src]": "src", "use": "href"} {
		d.Find(selector).Each(func(_ int, s *goquery.Selection) { add(s.AttrOr(attr, "")) })
	}
	return urls
}

// loads finds what a sheet or a module of ours loads.
var loads = regexp.MustCompile(`url\("([^"#]+)"\)|from "\./([^"]+)"`)
