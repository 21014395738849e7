package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// noPages are the lines of the route table that answer something else: files, fragments and the way to another page.
// Streams are known by their prefix.
var noPages = []string{"/", "/run", "/run/media/:id", "/run/media-field", "/run/sample/:slug/:name", "/jobs.json", "/jobs/:id/preview",
	"/jobs/:id/outputs.zip", "/jobs/:id/graph.json", "/outputs/:id", "/media/:id"}

// visit is one page as it is looked at. With do, something is done there first, and shows becomes true.
type visit struct{ name, path, do, shows string }

// pages are visits of every page in the route table: those that visits names, by the route they stand for, and the rest
// as they are. A new page with a parameter must be named.
func pages(t *testing.T, visits map[string][]visit) (list []visit) {
	t.Helper()
	for _, r := range routes(t) {
		if r.method != http.MethodGet || strings.HasPrefix(r.path, "/live/") || slices.Contains(noPages, r.path) {
			continue
		}
		if !strings.Contains(r.path, ":") {
			list = append(list, visit{name: strings.ReplaceAll(strings.Trim(r.path, "/"), "/", "-"), path: r.path})
		} else if len(visits[r.path]) == 0 {
			require.Fail(t, "a page without a visit", "say here what is seen on %s, or that it is no page", r.path)
		}
		list = append(list, visits[r.path]...)
	}
	return list
}

// serious runs axe-core and answers what it finds serious or critical.
const serious = `axe.run(document, {resultTypes: ["violations"], iframes: false, %s}).then((r) => r.violations
	.filter((v) => ["serious", "critical"].includes(v.impact))
	.map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ") + " (" + n.failureSummary.split("\n").slice(1).join("; ").trim() + ")").join(", ")))`

// lacking is what else must not be on a page: verbs whose dialog is missing, and what is wider than the window.
const lacking = `[
	...[...document.querySelectorAll("[data-opens]")].filter((b) => !document.getElementById(b.dataset.opens)).map((b) => "no dialog for " + b.outerHTML),
	...(document.documentElement.scrollWidth > innerWidth ? ["the page is " + document.documentElement.scrollWidth + " wide"] : []),
]`

// look opens a page and judges and photographs it in both sizes and both schemes. kind is filled or empty.
func (p *tab) look(v visit, kind string) {
	p.t.Helper()
	p.open(v.path)
	p.until("the page", `document.readyState === "complete" && [...document.images].every((i) => i.complete || i.loading === "lazy")`)
	if v.do != "" {
		mustEval[bool](p, "("+v.do+", true)")
		p.until(v.name, v.shows)
	}
	require.NoError(p.t, p.inject(), "axe-core")
	for _, width := range []int64{1440, 390} {
		p.size(width, map[int64]int64{1440: 900, 390: 844}[width])
		for _, scheme := range []struct{ name, rules string }{{"dark", ""}, {"light", `runOnly: ["color-contrast", "link-in-text-block"]`}} { // nothing but colours is other
			p.scheme(scheme.name)
			found, err := evalWithin[[]string](p, patience, fmt.Sprintf(serious, scheme.rules)) // it is all computing, on a machine that others use
			require.NoError(p.t, err, "axe-core on %s", v.name)
			for _, problem := range append(found, mustEval[[]string](p, lacking)...) {
				p.t.Errorf("%s, %s, %d wide, %s: %s", v.name, kind, width, scheme.name, problem)
			}
			p.shot(fmt.Sprintf("%s-%s-%d-%s", v.name, kind, width, scheme.name))
		}
	}
}

// inject puts axe-core beside the page's scripts, as developer tools do: the page's policy would not let it in.
func (p *tab) inject() error {
	source, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err = chromedp.Run(ctx, chromedp.Evaluate[bool](string(source)+"\n;true"))
	return err
}

func TestTheAccessibilityCheckerIsAsItWasPublished(t *testing.T) {
	raw, err := os.ReadFile("testdata/axe/manifest.json")
	require.NoError(t, err)
	var manifest struct {
		Files []struct{ Path, SHA256 string }
	}
	require.NoError(t, json.Unmarshal(raw, &manifest))
	require.NotEmpty(t, manifest.Files)
	for _, f := range manifest.Files {
		body, err := os.ReadFile("testdata/axe/" + f.Path)
		require.NoError(t, err)
		require.Equal(t, f.SHA256, hashOf(body), f.Path)
	}
}

func TestEveryPageIsAccessibleWhenItIsFull(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:3", "COMFYFLEET_MIN_READY=3", "COMFYFLEET_OUTBOUND_ALLOW=127.0.0.0/8")
	f := furnish(t, s)
	job := func(name, path string) visit { return visit{name: "job-" + name, path: "/jobs/" + path} }
	list := pages(t, map[string][]visit{
		"/run/:slug": {{name: "run", path: "/run/wan22-smooth-loop"}, {name: "run-done", path: "/run/wan22-smooth-loop?job=" + f.done},
			{name: "run-under-way", path: "/run/text-to-image?job=" + f.running}, {name: "run-failed", path: "/run/text-to-image?job=" + f.failed}},
		"/run/graph/:id": {{name: "run-graph", path: "/run/graph/" + f.graph}},
		"/run/job/:id":   {{name: "run-again", path: "/run/job/" + f.done}},
		"/jobs/:id": {job("succeeded", f.done), job("running", f.running), job("queued", f.queued), job("failed", f.failed), job("canceled", f.canceled), job("graph", f.done+"?tab=graph"),
			job("json", f.done+"?tab=json"), job("events", f.done+"?tab=events"), job("deliveries", f.done+"?tab=deliveries")},
		"/gpus/:name": {{name: "worker-busy", path: "/gpus/sim0"}, {name: "worker-drained", path: "/gpus/sim1"}, {name: "worker-killed", path: "/gpus/sim2"}},
	})
	list = append(list,
		visit{name: "jobs-filtered", path: "/jobs?q=state:failed+tenant:acme"},
		visit{name: "jobs-filter-wrong", path: "/jobs?q=state:happy"},
		visit{name: "jobs-selected", path: "/jobs", do: `document.querySelector("[data-select]").click()`, shows: `!document.querySelector("[data-bulk-bar]").hidden`},
		visit{name: "menu", path: "/gpus", do: `document.querySelector(".gpu details.menu").open = true`, shows: `document.querySelector(".menu__list").checkVisibility()`},
		visit{name: "confirm", path: "/gpus", do: `document.querySelector("[data-testid=drain-all]").click()`, shows: `document.querySelector("dialog[open]")`},
		visit{name: "search", path: "/overview", do: `document.querySelector("[data-search]").click()`, shows: `document.querySelector("#search[open]")`},
		visit{name: "help", path: "/overview", do: `document.querySelector("[data-opens=help]").click()`, shows: `document.querySelector("#help[open]")`},
		visit{name: "not-found", path: "/nowhere"},
	)
	for part := range slices.Chunk(list, (len(list)+1)/2) {
		t.Run(part[0].name, func(t *testing.T) {
			t.Parallel()
			p := signedIn(t, s, adminEmail)
			p.expect("404") // of the page that is not found
			for _, v := range part {
				p.look(v, "filled")
			}
		})
	}
}

func TestEveryPageIsAccessibleWhenItIsEmpty(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=0")
	p := openTab(t, s.base)
	p.look(visit{name: "signin", path: "/signin"}, "empty")
	p.size(1440, 900)
	p.signIn(adminEmail)
	var later []string
	for _, v := range pages(t, map[string][]visit{
		"/run/:slug": {{name: "run", path: "/run/text-to-image"}}, "/gpus/:name": {{name: "worker", path: "/gpus/sim0"}},
		"/run/graph/:id": {{name: "run-graph"}}, "/run/job/:id": {{name: "run-again"}}, "/jobs/:id": {{name: "job"}},
	}) {
		if v.path == "" {
			later = append(later, v.name)
			continue
		}
		p.look(v, "empty")
	}
	require.Equal(t, []string{"run-graph", "run-again", "job"}, later)

	// What has no page before there is a job: a graph of one node, and a job that was just taken and has nothing yet.
	admin := signIn(t, s, adminEmail)
	admin.post("/pause/dispatch?to=on")
	id := s.submit(map[string]any{"workflow": steps(1, 0.01)})
	p.look(visit{name: "run-graph", path: "/run/graph/" + admin.drop("one.json", []byte(`{"1":{"class_type":"EmptyImage","inputs":{}}}`))}, "empty")
	p.look(visit{name: "run-again", path: "/run/job/" + id}, "empty")
	for _, tab := range []string{"", "graph", "json", "events", "deliveries"} {
		p.look(visit{name: strings.TrimSuffix("job-"+tab, "-"), path: "/jobs/" + id + "?tab=" + tab}, "empty")
	}
}

// furniture are the things of a service that has worked for a while.
type furniture struct{ done, failed, canceled, running, queued, graph string }

// furnish has a service work: jobs of two tenants in every state, a webhook, a worker that is drained and one whose
// process was killed.
func furnish(t *testing.T, s *service) (f furniture) {
	t.Helper()
	var calls atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(hook.Close)
	admin := signIn(t, s, adminEmail)
	s.command("", "tenants", "create", "acme")
	f.done = s.submit(map[string]any{
		"workflow_id": "wan22-smooth-loop", "params": map[string]any{"prompt": "Dunes at dusk, wind over the crest", "image": "107.png"}, "webhook_url": hook.URL + "/done",
		"media": []any{map[string]any{"name": "107.png", "data": base64.StdEncoding.EncodeToString(sample(t, "wan22-smooth-loop", "107.png"))}}, "metadata": map[string]any{"order": 4711},
	})
	f.failed = s.submit(map[string]any{"workflow": map[string]any{
		"1": map[string]any{"class_type": "EmptyImage", "inputs": map[string]any{"width": 64, "height": 64, "batch_size": 1, "color": 0}},
		"2": map[string]any{"class_type": "SimRaise", "inputs": map[string]any{"image": []any{"1", 0}, "kind": "ValueError", "message": "the bridge fell"}},
	}})
	text := s.submit(map[string]any{"workflow_id": "text-to-text"})
	f.canceled = s.submit(map[string]any{"workflow": endless(0)})
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+f.canceled, nil).status)
	s.finish(f.done, "completed")
	s.finish(f.failed, "failed")
	s.finish(text, "completed")
	require.Eventually(t, func() bool { return strings.Contains(admin.get("/jobs/"+f.done+"?tab=deliveries").body, "503") }, patience, tick, "the webhook's first answer")

	admin.post("/gpus/sim1/drain")
	var killed []string
	require.Eventually(t, func() bool {
		killed = regexp.MustCompile(`(?s)<dt>Pid</dt>.*?<code>(\d+)</code>`).FindStringSubmatch(admin.get("/gpus/sim2").body)
		return killed != nil
	}, patience, tick, "the process of sim2")
	pid, err := strconv.Atoi(killed[1])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool { return strings.Contains(admin.get("/gpus/sim2").body, "SIGKILL") }, patience, tick, "the end of sim2's process")

	f.running = s.submit(map[string]any{"workflow": endless(0)})
	second := s.submit(map[string]any{"workflow": endless(1)})
	for _, id := range []string{f.running, second} {
		require.Eventually(t, func() bool { return s.job(id).Status == "running" }, patience, tick)
	}
	for range 3 {
		f.queued = s.submit(map[string]any{"workflow_id": "text-to-image", "params": map[string]any{"prompt": "A lighthouse in fog"}})
	}
	graph, err := json.Marshal(steps(3, 0.05))
	require.NoError(t, err)
	f.graph = admin.drop("three-steps.json", graph)
	return f
}

// post does an act of the dashboard that needs no more than the token.
func (p *session) post(path string) answer {
	p.t.Helper()
	a := p.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(url.Values{"csrf": {p.csrf}}.Encode()), nil)
	require.Less(p.t, a.status, 400, "%s: %s", path, a.body)
	return a
}

// drop drops a graph on the run page and answers its id.
func (p *session) drop(name string, graph []byte) string {
	p.t.Helper()
	a := p.upload("/run/graph", name, graph)
	id, found := strings.CutPrefix(a.header.Get("HX-Redirect"), "/run/graph/")
	require.True(p.t, found, a.body)
	return id
}
