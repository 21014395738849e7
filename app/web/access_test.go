package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// example is a path that fits a route's pattern.
func example(path string) string {
	return strings.NewReplacer(":id", "b41e07d2-0000-4000-8000-000000000001", ":slug", "text-to-image", ":name", "gpu0", ":verb", "drain", ":what", "intake").Replace(path)
}

func TestEveryRouteAsksNobodyInWithoutASession(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, "")
	v.plain = true
	for _, r := range new(Web).table() {
		got := v.do(v.request(r.method, example(r.path), "", nil))
		if strings.HasPrefix(r.path, "/live/") {
			assert.Contains(t, got.body, "event: signedout", r.path)
			continue
		}
		assert.Equal(t, http.StatusSeeOther, got.status, r.path)
		assert.True(t, strings.HasPrefix(got.header.Get("Location"), "/signin"), r.path)
	}
	assert.Empty(t, h.acts())
}

func TestNoRouteThatChangesAnythingLetsAViewerThrough(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleViewer)
	changing := 0
	for _, r := range new(Web).table() {
		if r.method == http.MethodGet {
			assert.Equal(t, models.RoleViewer, r.role, "%s: a viewer may see everything", r.path)
			continue
		}
		changing++
		got := v.post(example(r.path), url.Values{"ids": {"b41e07d2-0000-4000-8000-000000000001"}, "verb": {"cancel"}})
		assert.Equal(t, http.StatusForbidden, got.status, r.path)
		assert.Contains(t, got.body, "Your role is viewer", r.path)
	}
	assert.NotZero(t, changing)
	assert.Empty(t, h.acts())
	assert.Empty(t, h.submitted)
}

func TestAViewerSeesVerbsDisabledWithTheReason(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleViewer)
	for path, id := range map[string]string{"/gpus": "drain-gpu0", "/overview": "pause-intake", "/jobs/b41e07d2-0000-4000-8000-000000000001": "retry", "/run/text-to-image": "run"} {
		b := v.page(path).Find(testid(id))
		require.Equal(t, 1, b.Length(), path)
		_, disabled := b.Attr("disabled")
		assert.True(t, disabled, path)
		assert.Contains(t, b.AttrOr("title", ""), "Your role is viewer", path)
	}
}

func TestAChangeNeedsTheTokenOfTheSession(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleOperator)
	own := v.csrf
	for name, token := range map[string]string{"none": "", "another session's": "x" + own[1:]} {
		v.csrf = token
		for _, r := range new(Web).table() {
			if r.method == http.MethodGet {
				continue
			}
			got := v.post(example(r.path), url.Values{})
			assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, got.status, "%s with %s token", r.path, name)
		}
	}
	assert.Empty(t, h.acts())
	v.csrf = own
	assert.Equal(t, http.StatusOK, v.post("/gpus/gpu0/drain", nil).status)
	assert.Equal(t, []string{"drain gpu0"}, h.acts())
}

func TestAChangeFromAnotherSiteIsRefusedWhateverItCarries(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleOperator)
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		req := v.request(http.MethodPost, "/gpus/gpu0/drain", "application/x-www-form-urlencoded", strings.NewReader("csrf="+v.csrf))
		req.Header.Set(header, value)
		assert.Equal(t, http.StatusForbidden, v.do(req).status, header)
	}
	assert.Empty(t, h.acts())
}

func TestAPlainFormWorksWithTheTokenInIt(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleOperator)
	v.plain = true
	got := v.post("/gpus/gpu0/drain", url.Values{"csrf": {v.csrf}})
	assert.Equal(t, http.StatusSeeOther, got.status)
	assert.Equal(t, "/gpus/gpu0", got.header.Get("Location"))
	assert.Equal(t, []string{"drain gpu0"}, h.acts())
}

func TestSignInSetsASessionAndLeadsBack(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, "")
	v.plain = true
	assert.Equal(t, "/signin?next=%2Fjobs%3Fq%3Dstate%3Afailed", v.get("/jobs?q=state:failed").header.Get("Location"))

	wrong := v.post("/signin", url.Values{"email": {"admin@example.com"}, "password": {"not this one"}})
	unknown := v.post("/signin", url.Values{"email": {"nobody@example.com"}, "password": {"not this one"}})
	for _, r := range []reply{wrong, unknown} {
		assert.Equal(t, http.StatusUnauthorized, r.status)
		assert.Equal(t, "Email or password is wrong.", words(r.doc(t).Find(testid("problem"))))
		assert.Empty(t, r.header.Get("Set-Cookie"))
	}

	ok := v.post("/signin", url.Values{"email": {" Admin@Example.com "}, "password": {"preview-password"}, "next": {"/jobs?q=state:failed"}})
	require.Equal(t, http.StatusSeeOther, ok.status)
	assert.Equal(t, "/jobs?q=state:failed", ok.header.Get("Location"))
	cookie := ok.header.Get("Set-Cookie")
	assert.Contains(t, cookie, "HttpOnly")
	assert.Contains(t, cookie, "SameSite=Lax")
	v.cookie, _, _ = strings.Cut(strings.TrimPrefix(cookie, sessionCookie+"="), ";")
	page := v.page("/jobs")
	token := page.Find(`meta[name="csrf"]`).AttrOr("content", "")
	require.NotEmpty(t, token)

	out := v.post("/signout", url.Values{"csrf": {token}})
	assert.Equal(t, "/signin", out.header.Get("Location"))
	assert.Empty(t, h.sessions)
	assert.Equal(t, http.StatusSeeOther, v.get("/jobs").status)
	require.NotEmpty(t, h.audit)
	assert.Equal(t, "operator.signin", h.audit[0].Action)
}

func TestSignInIsThrottledAndSaysForHowLong(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, "")
	v.plain = true
	var last reply
	for range 8 {
		last = v.post("/signin", url.Values{"email": {"admin@example.com"}, "password": {"guess"}})
		if last.status == http.StatusTooManyRequests {
			break
		}
	}
	require.Equal(t, http.StatusTooManyRequests, last.status)
	assert.Contains(t, words(last.doc(t).Find(testid("problem"))), "Too many tries. Wait ")
}

func TestADisabledOperatorAndAnOldSessionAreSignedOut(t *testing.T) {
	h := newHouse(t)
	v := h.visit(t, models.RoleAdmin)
	require.Equal(t, http.StatusOK, v.get("/jobs").status)
	h.change(func() { h.now = h.now.Add(auth.SessionIdle + time.Minute) })
	assert.Equal(t, http.StatusSeeOther, v.get("/jobs").status)
	h.change(func() { h.now = h.now.Add(-auth.SessionIdle); h.people[0].DisabledAt = &h.now })
	assert.Equal(t, http.StatusSeeOther, v.get("/jobs").status)
}

func TestWhereSignInLeadsIsAlwaysAPageOfOurs(t *testing.T) {
	for next, want := range map[string]string{
		"/jobs?q=x": "/jobs?q=x", "": "/overview", "https://evil.example": "/overview", "//evil.example": "/overview",
		`/\evil.example`: "/overview", "/\t/evil.example": "/overview", "/signin": "/overview",
	} {
		assert.Equal(t, want, safeNext(next), "%q", next)
	}
}

func TestPagesAllowNoInlineScriptOrStyle(t *testing.T) {
	h := newHouse(t)
	furnish(t, h)
	v := h.visit(t, models.RoleAdmin)
	for _, path := range []string{"/overview", "/jobs", "/jobs/b41e07d2-0000-4000-8000-000000000001", "/jobs/b41e07d2-0000-4000-8000-000000000001?tab=graph", "/gpus", "/gpus/gpu3", "/run/wan22-smooth-loop", "/signin"} {
		r := v.get(path)
		if path == "/signin" {
			v2 := h.visit(t, "")
			r = v2.get(path)
		}
		require.Equal(t, http.StatusOK, r.status, path)
		policy := r.header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'", path)
		assert.NotContains(t, policy, "unsafe", path)
		d := r.doc(t)
		assert.Zero(t, d.Find("[style], style, script:not([src])").Length(), path)
		for _, n := range d.Find("*").Nodes {
			for _, a := range n.Attr {
				assert.False(t, strings.HasPrefix(a.Key, "on"), "%s: %s on %s", path, a.Key, n.Data)
			}
		}
	}
}
