package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// route is one line of the dashboard's table.
type route struct{ method, path string }

// routes reads the table from the source, so that a route cannot be forgotten here.
func routes(t *testing.T) (list []route) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../web/routes.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		line, ok := n.(*ast.CompositeLit)
		if !ok || len(line.Elts) != 4 {
			return true
		}
		var words []string
		for _, e := range line.Elts[:2] {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				word, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				words = append(words, word)
			}
		}
		if len(words) == 2 {
			list = append(list, route{words[0], words[1]})
		}
		return true
	})
	require.GreaterOrEqual(t, len(list), 35, "routes found in the table")
	return list
}

// TestNothingChangesForAViewerNorWithoutTheToken tries every route of the table that changes something, on things that
// exist.
func TestNothingChangesForAViewerNorWithoutTheToken(t *testing.T) {
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	s.addViewer()
	running := s.submit(map[string]any{"workflow": endless(0)})
	require.Eventually(t, func() bool { return s.job(running).Status == "running" }, patience, tick)
	admin, viewer := signIn(t, s, adminEmail), signIn(t, s, viewerEmail)
	graph := strings.TrimPrefix(admin.upload("/run/graph", "g.json", []byte(`{"1":{"class_type":"EmptyImage","inputs":{}}}`)).header.Get("HX-Redirect"), "/run/graph/")
	require.NotEmpty(t, graph)
	before := admin.get("/jobs").body

	tried := 0
	for _, r := range routes(t) {
		if r.method != http.MethodPost {
			continue
		}
		id := running
		if strings.Contains(r.path, "/run/graph/:id") {
			id = graph
		}
		path := strings.NewReplacer(":what", "intake", ":slug", "text-to-text", ":name", "sim0", ":verb", "drain", ":id", id).Replace(r.path)
		form := func(csrf string) answer {
			return viewer.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader("csrf="+csrf+"&verb=cancel&ids="+running), nil)
		}
		a := form(viewer.csrf)
		require.Equal(t, 403, a.status, "a viewer with a token: POST %s: %s", path, a.body)
		require.Contains(t, a.body, "viewer", "POST %s says why", path)

		for name, header := range map[string]map[string]string{
			"no token": {}, "another session's token": {"X-CSRF-Token": viewer.csrf}, "from another site": {"X-CSRF-Token": admin.csrf, "Sec-Fetch-Site": "cross-site"},
			"from another origin": {"X-CSRF-Token": admin.csrf, "Origin": "https://elsewhere.example"},
		} {
			for kind, body := range map[string]string{
				"application/x-www-form-urlencoded": "verb=cancel&ids=" + running,
				"multipart/form-data; boundary=x":   "--x\r\nContent-Disposition: form-data; name=\"verb\"\r\n\r\ncancel\r\n--x--\r\n",
			} {
				a := admin.send("POST", path, kind, strings.NewReader(body), header)
				require.Equal(t, 403, a.status, "%s: POST %s (%s): %s", name, path, kind, a.body)
			}
		}
		nobody := &session{t: t, base: s.base, http: &http.Client{Timeout: patience, CheckRedirect: admin.http.CheckRedirect}}
		require.Equal(t, http.StatusSeeOther, nobody.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(""), nil).status, "POST %s without a session", path)
		tried++
	}
	require.GreaterOrEqual(t, tried, 12)

	require.Equal(t, "running", s.job(running).Status, "nothing was canceled")
	after := admin.get("/jobs").body
	require.Equal(t, strings.Count(before, `data-testid="job-row"`), strings.Count(after, `data-testid="job-row"`), "nothing was submitted")
	require.NotContains(t, after, "is paused")
	require.Contains(t, admin.get("/gpus").body, `data-testid="drain-sim0"`, "nothing was drained")
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+running, nil).status)
}

// TestAViewerSeesEveryVerbDisabled looks at the pages of somebody who may not act.
func TestAViewerSeesEveryVerbDisabled(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	s.addViewer()
	done := s.submit(map[string]any{"workflow": steps(1, 0.01)})
	s.finish(done, "completed")
	running := s.submit(map[string]any{"workflow": endless(0)})
	p := signedIn(t, s, viewerEmail)
	for _, path := range []string{"/overview", "/jobs", "/jobs/" + done, "/jobs/" + running, "/gpus", "/gpus/sim0", "/run/text-to-image"} {
		p.open(path)
		active := mustEval[[]string](p, `[...document.querySelectorAll("button[hx-post], button[data-opens]:not([data-opens=help]), button[data-bulk], [data-testid=run]")]
			.filter((b) => !b.disabled || !b.title).map((b) => b.outerHTML)`)
		require.Empty(t, active, "verbs on %s that a viewer may press, or that do not say why not", path)
	}
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+running, nil).status)
}
