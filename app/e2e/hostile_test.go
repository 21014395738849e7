package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// hostile is markup that marks itself if any page takes it for markup, and says in which field it stood.
func hostile(field string) string {
	return `'"><pwn-el><img src=x onerror="window.__pwned='` + field + `'"><script>window.__pwned='` + field + `'</script></pwn-el>` + field
}

// nodeName is the same for an id of a node, which has no slash.
const nodeName = `'"><img src=x onerror="window.__pwned='node'">`

// untouched is what must hold on every page.
const untouched = `window.__pwned === undefined && !document.querySelector("pwn-el, img[src=x], [onerror], [onload], script:not([src])")`

// legible is everything that a page shows: text, values of fields and titles.
const legible = `[document.body.innerText, ...[...document.querySelectorAll("input, textarea, pre, option")].map((e) => e.value ?? e.textContent), ...[...document.querySelectorAll("[title]")].map((e) => e.title)].join("\n")`

// hostileGraph carries the strings of a tenant who means harm wherever a graph has strings.
func hostileGraph() map[string]any {
	node := func(class string, inputs map[string]any) map[string]any {
		return map[string]any{"class_type": class, "inputs": inputs, "_meta": map[string]any{"title": hostile("title")}}
	}
	return map[string]any{
		"1": node("LoadImage", map[string]any{"image": hostile("media") + ".png"}),
		"2": node("SimSteps", map[string]any{"image": []any{"1", 0}, "steps": 2, "delay": 0.01, "preview": true, "seed": 1}),
		"3": node("SaveImage", map[string]any{"images": []any{"2", 0}, "filename_prefix": hostile("prefix")}),
		"4": node("PrimitiveStringMultiline", map[string]any{"value": hostile("prompt")}),
		"5": node("PreviewAny", map[string]any{"source": []any{"4", 0}}),
		"6": node("SimOutput", map[string]any{"kind": "files", "count": 1, "bytes": 64, "filename_prefix": "drawing", "seed": 1, "extension": "svg"}),
		"7": node("SimOutput", map[string]any{"kind": "files", "count": 1, "bytes": 64, "filename_prefix": "page", "seed": 1, "extension": "html"}),
	}
}

const (
	rogueSVG  = `<svg xmlns="http://www.w3.org/2000/svg" onload="window.__pwned='svg'"><script>window.__pwned='svg'; parent.__pwned='svg'; fetch('/overview')</script></svg>`
	rogueHTML = `<!doctype html><script>window.__pwned='html'; document.title=document.cookie</script><p>hello</p>`
)

// furnishHostile has a tenant do its worst, and answers the ids of a job that succeeded and of one that failed.
func furnishHostile(t *testing.T, s *service) (done, failed string) {
	t.Helper()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, hostile("hook-answer"), http.StatusTeapot) }))
	t.Cleanup(hook.Close)
	s.key = strings.TrimSpace(s.command("", "keys", "create", "--tenant", "default", "--name", hostile("key")))
	done = s.submit(map[string]any{
		"workflow": hostileGraph(), "metadata": map[string]any{hostile("meta-name"): hostile("meta-value")},
		"webhook_url": hook.URL + "/?q=" + url.QueryEscape(hostile("hook")),
		"media":       []any{map[string]any{"name": "drawing.svg", "data": base64.StdEncoding.EncodeToString([]byte(rogueSVG))}, map[string]any{"name": hostile("media") + ".png", "data": base64.StdEncoding.EncodeToString(sample(t, "wan22-smooth-loop", "107.png"))}},
	})
	s.finish(done, "completed")
	failed = s.submit(map[string]any{"workflow": map[string]any{
		"1":      map[string]any{"class_type": "EmptyImage", "inputs": map[string]any{"width": 64, "height": 64, "batch_size": 1, "color": 0}},
		nodeName: map[string]any{"class_type": "SimRaise", "inputs": map[string]any{"image": []any{"1", 0}, "kind": hostile("kind"), "message": hostile("message")}},
	}})
	s.finish(failed, "failed")
	return done, failed
}

func TestTheStringsOfTenantsAreTextEverywhere(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=attached:"+rogueEngine(t, map[string]string{".svg": rogueSVG, ".html": rogueHTML}), "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	done, failed := furnishHostile(t, s)
	p := signedIn(t, s, adminEmail)
	p.expect("404", "422")
	admin := signIn(t, s, adminEmail)
	raw, err := json.Marshal(hostileGraph())
	require.NoError(t, err)
	dropped := admin.upload("/run/graph", hostile("file")+".json", raw).header.Get("HX-Redirect")
	require.NotEmpty(t, dropped)
	chosen := admin.upload("/run/media?"+url.Values{"field": {hostile("field")}, "label": {hostile("label")}, "type": {"image"}}.Encode(), hostile("chosen")+".png", sample(t, "wan22-smooth-loop", "107.png"))
	require.Equal(t, 200, chosen.status)
	require.NotContains(t, chosen.body, "<pwn-el")

	p.open("/jobs/" + done)
	tabs := mustEval[[]string](p, `[...document.querySelectorAll("nav.tabs[aria-label=Job] a")].map((a) => a.getAttribute("href"))`)
	require.GreaterOrEqual(t, len(tabs), 4)
	engine := mustEval[string](p, `document.querySelector("#job-time a[href^='/gpus/']").getAttribute("href")`)
	require.Eventually(t, func() bool { return strings.Contains(admin.get("/jobs/"+done+"?tab=deliveries").body, "418") }, patience, tick, "the webhook's answer")
	pages := slices.Concat(tabs, []string{"/jobs/" + failed, "/jobs/" + failed + "?tab=graph", "/jobs/" + failed + "?tab=events", "/run/text-to-image?job=" + done, "/run/text-to-image?job=" + failed, "/jobs", "/jobs?q=" + url.QueryEscape("id:"+hostile("query")), "/jobs?q=" + url.QueryEscape(hostile("words")),
		"/overview", "/gpus", engine, "/run/job/" + done, dropped, "/nowhere/" + url.PathEscape(hostile("path"))})
	read := ""
	for _, path := range pages {
		p.open(path)
		p.until("the page", `document.readyState === "complete"`)
		require.True(t, mustEval[bool](p, untouched), "%s takes a tenant's string for markup", path)
		if mustEval[bool](p, `!!document.getElementById("main")?.dataset.live`) {
			p.snapshot()
			require.True(t, mustEval[bool](p, untouched), "the stream of %s takes a tenant's string for markup", path)
		}
		read += mustEval[string](p, legible)
	}
	for _, field := range []string{"title", "media", "prefix", "prompt", "meta-name", "meta-value", "key", "hook-answer", "kind", "message", "node", "query"} {
		require.True(t, strings.Contains(read, "window.__pwned='"+field+"'"), "the %s is nowhere shown as it is", field)
	}
	require.Contains(t, read, "?q="+url.QueryEscape(hostile("hook")), "the webhook's address")

	// A file that is chosen in the browser. A name on disk has no slash, and browsers encode the quotes.
	p.open("/run/wan22-smooth-loop")
	named := filepath.Join(t.TempDir(), `<img src=x onerror=window.__pwned='chosen'>.png`)
	require.NoError(t, os.WriteFile(named, sample(t, "wan22-smooth-loop", "107.png"), 0o600))
	p.click("[data-testid=media-field] button[aria-label^=Remove]")
	p.see("[data-testid=media-field]", "Drop a file")
	p.choose("[data-testid=media-field] input[type=file]", named)
	p.see("[data-testid=media-field]", "onerror=window.__pwned='chosen'>")
	require.True(t, mustEval[bool](p, untouched))

	// A refusal that repeats what was sent.
	p.open("/run/graph/" + admin.drop("graph.json", []byte(`{`+quote(nodeName)+`: {"class_type": `+quote(hostile("class"))+`, "inputs": {}}}`)))
	p.click("[data-testid=run]")
	p.see("[data-testid=form-problem]", "window.__pwned='class'")
	require.True(t, mustEval[bool](p, untouched))
}

func TestWhatAWorkflowMadeCannotRunScript(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=attached:"+rogueEngine(t, map[string]string{".svg": rogueSVG, ".html": rogueHTML}), "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	done, _ := furnishHostile(t, s)
	p := signedIn(t, s, adminEmail)
	admin := signIn(t, s, adminEmail)
	p.expect("sandboxed", "net::ERR_ABORTED")
	kinds := map[string]bool{}
	var paths []string
	for _, o := range s.job(done).Outputs {
		link, err := url.Parse(o.URL)
		require.NoError(t, err)
		require.NotEmpty(t, link.Query(), "a signed URL")
		paths = append(paths, "/outputs/"+o.ID, link.RequestURI()) // the API's links lead into the dashboard's origin, too
	}
	inputs := regexp.MustCompile(`/media/[0-9a-f-]+`).FindAllString(admin.get("/jobs/"+done).body, -1)
	require.NotEmpty(t, inputs)
	slices.Sort(inputs)
	for _, path := range append(paths, slices.Compact(inputs)...) {
		a := admin.get(path)
		require.Equal(t, 200, a.status)
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"), path)
		require.Contains(t, a.header.Get("Content-Security-Policy"), "sandbox", path)
		require.NotContains(t, a.header.Get("Content-Security-Policy"), "allow-", path)
		kind := a.header.Get("Content-Type")
		kinds[kind] = true
		if strings.Contains(a.body, "<script") && kind != "text/plain; charset=utf-8" {
			require.Equal(t, "application/octet-stream", kind)
			require.True(t, strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment"), "%s: %s", path, a.header)
		}

		// Opened as a page of its own, in the dashboard's origin, by somebody who is signed in.
		p.open("/jobs/" + done)
		_ = chromedp.Do(p.ctx, chromedp.Navigate(s.base+path)) // a download ends the navigation with an error
		require.True(t, mustEval[bool](p, "window.__pwned === undefined"), "%s ran script", path)
		if p.path() == path {
			for _, store := range []string{"document.cookie", "localStorage.length"} {
				require.Equal(t, "SecurityError", mustEval[string](p, fmt.Sprintf(`(() => { try { return "reached " + %s } catch (e) { return e.name } })()`, store)), "%s reaches %s", path, store)
			}
		}
	}
	for _, kind := range []string{"image/png", "text/plain; charset=utf-8", "application/octet-stream"} {
		require.True(t, kinds[kind], "an output of %s among %v", kind, kinds)
	}

	// The same for files that a browser sent.
	page := admin.upload("/run/media?field=image&label=Picture&type=image", "drawing.svg", []byte(rogueSVG))
	_, rest, found := strings.Cut(page.body, `value="upload:`)
	require.True(t, found, page.body)
	id, _, _ := strings.Cut(rest, `"`)
	a := admin.get("/run/media/" + id)
	require.Equal(t, 200, a.status)
	require.Equal(t, "application/octet-stream", a.header.Get("Content-Type"))
	require.Contains(t, a.header.Get("Content-Security-Policy"), "sandbox")
}
