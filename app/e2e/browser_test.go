package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// chromium is the browser's program.
const chromium = "chromium"

// browser is a headless Chromium.
type browser struct {
	once sync.Once
	ctx  context.Context
	err  error
	stop func()
}

// start starts Chromium once. It lives until close.
func (b *browser) start(path string) (context.Context, error) {
	b.once.Do(func() {
		allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
			chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience), chromedp.Flag("autoplay-policy", "no-user-gesture-required"))...)
		ctx, cancel := chromedp.NewContext(allocator)
		b.stop = func() { cancel(); stop() }
		b.ctx, b.err = ctx, chromedp.Do(ctx, chromedp.Navigate("about:blank"))
	})
	return b.ctx, b.err
}

// close ends the browser, if there is one.
func (b *browser) close() {
	if b.stop != nil {
		b.stop()
	}
}

// tab is one page of one profile. Whatever its console, its content policy or its scripts complain of fails the test,
// unless the test said before that it will.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	expected []string
	problems []string
}

// inBrowser begins a test that needs the browser. Such tests run beside each other, each with a profile and a server of
// its own.
func inBrowser(t *testing.T) {
	t.Helper()
	if os.Getenv("COMFYFLEET_E2E") == "" {
		t.Skip("the browser is for `make e2e`")
	}
	if _, err := exec.LookPath(chromium); err != nil {
		skip(t, "no "+chromium+" to open the dashboard in")
	}
	t.Parallel()
}

// openTab opens a page of a profile of its own.
func openTab(t *testing.T, base string) *tab {
	t.Helper()
	root, err := chrome.start(chromium)
	require.NoError(t, err)
	p := &tab{t: t, base: base}
	ctx, cancel := chromedp.NewContext(root, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.heard))
	p.ctx = ctx
	_, err = chromedp.Call(ctx, audits.Enable, cdp.Empty{})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // of several pages only one is in front
	require.NoError(t, err)
	p.size(1440, 900)
	p.scheme("dark")
	t.Cleanup(func() {
		if t.Failed() {
			p.shot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			t.Error("the page complained: " + problem)
		}
	})
	return p
}

// signedIn opens a page and signs in there.
func signedIn(t *testing.T, s *service, email string) *tab {
	t.Helper()
	p := openTab(t, s.base)
	p.signIn(email)
	return p
}

// signIn signs in and waits for the overview.
func (p *tab) signIn(email string) {
	p.t.Helper()
	p.open("/overview")
	p.fill("#email", email)
	p.fill("#password", adminPassword)
	p.click(".login button")
	p.until("the overview with its scripts", `location.pathname === "/overview" && document.getElementById("sentence") && document.readyState === "complete"`)
}

// heard collects complaints. It runs on the reader of the tab's messages: it must not block.
func (p *tab) heard(event any) {
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			raw, _ := json.Marshal(e.Args)
			p.complain("console: " + string(raw))
		}
	case *runtime.EventExceptionThrown:
		raw, _ := json.Marshal(e.ExceptionDetails)
		p.complain("exception: " + string(raw))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.complain(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *audits.EventIssueAdded:
		if csp := e.Issue.Details.ContentSecurityPolicyIssueDetails; csp != nil {
			p.complain(fmt.Sprintf("content policy: %s %s", csp.ViolatedDirective, csp.BlockedURL))
		}
	}
}

func (p *tab) complain(problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, words := range p.expected {
		if strings.Contains(problem, words) {
			return
		}
	}
	p.problems = append(p.problems, problem)
}

// expect says that complaints with these words belong to the test.
func (p *tab) expect(words ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, words...)
}

// size sets the window; widths below 600 are a phone.
func (p *tab) size(width, height int64) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)))
}

// scheme is what the system of the reader prefers: dark or light. Motion is off, so that nothing is judged half-way.
func (p *tab) scheme(name string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	require.NoError(p.t, err)
}

// open goes to a page of the dashboard.
func (p *tab) open(path string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, chromedp.Navigate(p.base+path)), path)
}

// eval runs a JavaScript expression. It may be a promise.
func eval[T any](p *tab, js string) (T, error) { return evalWithin[T](p, 30*time.Second, js) }

// evalWithin is eval for what may compute for long.
func evalWithin[T any](p *tab, limit time.Duration, js string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
}

func mustEval[T any](p *tab, js string) T {
	p.t.Helper()
	v, err := eval[T](p, js)
	require.NoError(p.t, err, js)
	return v
}

// until waits for a JavaScript expression to be true. A page that is being left answers nothing: that is not yet.
func (p *tab) until(what, js string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		ok, err := eval[bool](p, "!!("+js+")")
		return err == nil && ok
	}, patience, tick, "%s: %s", what, js)
}

// shown is what a reader can read in an element. What the stream replaces is wrapped in elements without a box.
const shown = `(() => {
	const words = (e) => getComputedStyle(e).display === "contents" ? [...e.children].map(words).join("\\n") : e.checkVisibility() ? e.innerText : "";
	const e = document.querySelector(%s);
	return e ? words(e) : "";
})()`

// see waits until the first element that matches shows the words, in whatever case.
func (p *tab) see(selector, words string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	last := ""
	for time.Now().Before(deadline) {
		text, err := eval[string](p, fmt.Sprintf(shown, quote(selector)))
		if err == nil && strings.Contains(strings.ToLower(text), strings.ToLower(words)) {
			return
		}
		last = text
		p.pause()
	}
	require.Failf(p.t, "not seen", "%q in %s; it shows %q", words, selector, last)
}

// pause is the gap between two looks at a page: one turn of its event loop and a frame or two.
func (p *tab) pause() {
	_, _ = eval[bool](p, `new Promise((done) => setTimeout(() => done(true), 40))`)
}

// at is where an element can be clicked, once it is there, enabled, in view, and nothing lies over it.
const at = `(() => {
	const e = [...document.querySelectorAll(%s)].find((e) => e.checkVisibility());
	if (!e || e.disabled) return null;
	e.scrollIntoView({block: "center", inline: "center"});
	const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
	const top = document.elementFromPoint(x, y);
	return top && (e === top || e.contains(top) || top.contains(e)) ? [x, y] : null;
})()`

// click clicks the first visible element that matches, with the mouse.
func (p *tab) click(selector string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		where, err := eval[[]float64](p, fmt.Sprintf(at, quote(selector)))
		if err != nil || len(where) != 2 {
			return false
		}
		return chromedp.Do(p.ctx, chromedp.MouseClickXY(where[0], where[1])) == nil
	}, patience, tick, "%s cannot be clicked", selector)
}

// fill types into a field, in place of what was there.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.until("a field", "document.querySelector("+quote(selector)+")")
	mustEval[bool](p, `(() => { const e = document.querySelector(`+quote(selector)+`); e.focus(); e.select?.(); return true })()`)
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent("\b"), chromedp.KeyEvent(text)))
}

// hover moves the mouse over an element.
func (p *tab) hover(selector string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		where, err := eval[[]float64](p, fmt.Sprintf(at, quote(selector)))
		if err != nil || len(where) != 2 {
			return false
		}
		return chromedp.Do(p.ctx, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, where[0], where[1])) == nil
	}, patience, tick, "%s cannot be pointed at", selector)
}

// press presses one key, where the focus is.
func (p *tab) press(key string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.KeyEvent(key)))
}

// choose puts files into a file field, as a chooser or a drop would.
func (p *tab) choose(selector string, files ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, chromedp.SetUploadFiles(chromedp.CSS(selector), files)))
}

// snapshot has the page's stream begin again and waits for what comes first: everything that the page shows.
func (p *tab) snapshot() {
	p.t.Helper()
	require.True(p.t, mustEval[bool](p, `new Promise((done) => {
		document.addEventListener("parts", () => done(true), {once: true});
		document.dispatchEvent(new CustomEvent("live", {detail: {}}));
	})`))
}

func (p *tab) path() string {
	p.t.Helper()
	return mustEval[string](p, "location.pathname + location.search")
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// shot keeps a picture of the whole page in $E2E_SHOTS.
func (p *tab) shot(name string) {
	dir := os.Getenv("E2E_SHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Logf("picture %s: %v", name, err)
	}
}
