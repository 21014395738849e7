package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
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
	done = s.submit(map[string]any{
		"workflow": hostileGraph(), "metadata": map[string]any{hostile("meta-name"): hostile("meta-value")},
		"webhook_url": "http://127.0.0.1:9/?q=" + url.QueryEscape(hostile("hook")),
		"media":       []any{map[string]any{"name": hostile("media") + ".png", "data": base64.StdEncoding.EncodeToString(sample(t, "wan22-smooth-loop", "107.png"))}},
	})
	s.finish(done, "completed")
	failed = s.submit(map[string]any{"workflow": map[string]any{
		"1": map[string]any{"class_type": "EmptyImage", "inputs": map[string]any{"width": 64, "height": 64, "batch_size": 1, "color": 0}},
		"2": map[string]any{"class_type": "SimRaise", "inputs": map[string]any{"image": []any{"1", 0}, "kind": hostile("kind"), "message": hostile("message")}},
	}})
	s.finish(failed, "failed")
	return done, failed
}

func TestTheStringsOfTenantsAreTextEverywhere(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=attached:"+rogueEngine(t, map[string]string{".svg": rogueSVG, ".html": rogueHTML}), "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	s.command("", "keys", "create", "--tenant", "default", "--name", hostile("key"))
	done, failed := furnishHostile(t, s)
	p := signedIn(t, s, adminEmail)
	p.expect("404")
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
	pages := slices.Concat(tabs, []string{"/jobs/" + failed, "/jobs", "/jobs?q=" + url.QueryEscape("id:"+hostile("query")), "/jobs?q=" + url.QueryEscape(hostile("words")),
		"/overview", "/gpus", engine, "/run/job/" + done, dropped, "/nowhere/" + url.PathEscape(hostile("path"))})
	read := ""
	for _, path := range pages {
		p.open(path)
		p.until("the page", `document.readyState === "complete"`)
		require.True(t, mustEval[bool](p, untouched), "%s takes a tenant's string for markup", path)
		read += mustEval[string](p, legible)
	}
	for _, field := range []string{"title", "media", "prefix", "prompt", "meta-name", "message", "query"} {
		require.True(t, strings.Contains(read, "window.__pwned='"+field+"'"), "the %s is nowhere shown as it is", field)
	}
	require.Contains(t, read, "?q="+url.QueryEscape(hostile("hook")), "the webhook's address")
}

func TestWhatAWorkflowMadeCannotRunScript(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=attached:"+rogueEngine(t, map[string]string{".svg": rogueSVG, ".html": rogueHTML}), "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	done, _ := furnishHostile(t, s)
	p := signedIn(t, s, adminEmail)
	admin := signIn(t, s, adminEmail)
	p.expect("sandboxed", "net::ERR_ABORTED")
	kinds := map[string]bool{}
	for _, o := range s.job(done).Outputs {
		path := "/outputs/" + o.ID
		a := admin.get(path)
		require.Equal(t, 200, a.status)
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"), path)
		require.Contains(t, a.header.Get("Content-Security-Policy"), "sandbox", path)
		require.NotContains(t, a.header.Get("Content-Security-Policy"), "allow-", path)
		kind := a.header.Get("Content-Type")
		kinds[kind] = true
		if strings.Contains(a.body, "<script") && kind != "text/plain; charset=utf-8" {
			require.Equal(t, "application/octet-stream", kind)
			require.True(t, strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment"), "%s: %s", o.Filename, a.header)
		}

		// Opened as a page of its own, in the dashboard's origin, by somebody who is signed in.
		p.open("/jobs/" + done)
		_ = chromedp.Do(p.ctx, chromedp.Navigate(s.base+path)) // a download ends the navigation with an error
		require.True(t, mustEval[bool](p, "window.__pwned === undefined"), "%s ran script", o.Filename)
		if mustEval[string](p, "location.pathname") == path {
			for _, store := range []string{"document.cookie", "localStorage.length"} {
				require.Equal(t, "SecurityError", mustEval[string](p, fmt.Sprintf(`(() => { try { return "reached " + %s } catch (e) { return e.name } })()`, store)), "%s reaches %s", o.Filename, store)
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
