package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatTheReaderDidSurvivesWhatTheServerSends does what readers do and has the server send the whole page again.
func TestWhatTheReaderDidSurvivesWhatTheServerSends(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	var done string
	for i := range 20 { // each leaves lines in the worker's log
		done = s.submit(map[string]any{"workflow": steps(i+1, 0.01)})
	}
	s.finish(done, "completed")
	p := signedIn(t, s, adminEmail)

	p.open("/jobs/" + done)
	p.click("[data-shows=code-python]")
	p.click("#phase-executed summary")
	p.snapshot()
	require.False(t, mustEval[bool](p, `document.getElementById("phase-executed").open`), "what the reader closed stays closed")
	require.True(t, mustEval[bool](p, `document.getElementById("code-python").checkVisibility() && !document.getElementById("code-curl").checkVisibility()`), "the chosen language")

	p.open("/gpus")
	p.click("#more-sim0 summary")
	mustEval[bool](p, `(window.held = document.activeElement, true)`)
	p.snapshot()
	require.True(t, mustEval[bool](p, `document.getElementById("more-sim0").open && document.activeElement === held && held.matches("summary")`), "the open menu and the focus")
	p.click("[data-log=fleet-log][data-level=error]")
	p.snapshot()
	require.Equal(t, "error", mustEval[string](p, `document.getElementById("fleet-log").dataset.filter`))
	p.click("[data-testid=drain-all]")
	p.snapshot()
	require.True(t, mustEval[bool](p, `document.getElementById("drain-all").open`), "the question that is being asked")

	// A log goes on at its end. Where somebody reads, it stands still.
	p.open("/gpus/sim0")
	log := `document.getElementById("worker-log")`
	lines := func() int { return mustEval[int](p, log+".children.length") }
	more := func() {
		s.finish(s.submit(map[string]any{"workflow": steps(1, 0.01)}), "completed")
		p.snapshot()
	}
	p.until("a log that is longer than its window, at its end", log+`.scrollTop > 50`)
	mustEval[bool](p, "("+log+".scrollTop = 0, true)")
	p.until("the scrolling to be noticed", "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
	before := lines()
	more()
	require.Equal(t, before, lines(), "the log moved under its reader")
	mustEval[bool](p, "("+log+".scrollTop = 1e6, true)")
	p.until("what came meanwhile", fmt.Sprintf("%s.children.length > %d", log, before))
	p.until("the end of the log", log+".scrollTop + "+log+".clientHeight > "+log+".scrollHeight - 8")
	mustEval[bool](p, "(getSelection().selectAllChildren("+log+".lastElementChild), true)")
	before = lines() // from here on nothing may come
	marked := mustEval[string](p, "getSelection().toString()")
	more()
	require.Equal(t, before, lines(), "the log moved under what is marked")
	require.Equal(t, marked, mustEval[string](p, "getSelection().toString()"))
	mustEval[bool](p, "(getSelection().removeAllRanges(), true)")
	p.until("what came meanwhile", fmt.Sprintf("%s.children.length > %d", log, before))

	// A filter that is being typed outlives the rows that come, and the list that is made anew.
	p.open("/jobs")
	p.fill("#filter-add", "state:fail")
	s.submit(map[string]any{"workflow": steps(1, 0.01)})
	p.see("[data-testid=fresh]", "1 new job")
	p.snapshot()
	require.Equal(t, "state:fail filter-add", mustEval[string](p, `document.getElementById("filter-add").value + " " + document.activeElement.id`))
	p.click("[data-testid=fresh]")
	p.until("the list with the new job", `!document.querySelector("[data-testid=fresh]") && document.querySelectorAll("[data-row]").length === 23`)
	require.Equal(t, "state:fail", mustEval[string](p, `document.getElementById("filter-add").value`))

	// A page to which the browser goes back is alive.
	p.open("/overview")
	mustEval[bool](p, "(history.back(), true)")
	p.until("the list again", `location.pathname === "/jobs" && document.querySelector("[data-row]")`)
	p.fill("#filter-add", "")
	p.hover("#sentence")
	mustEval[bool](p, "(document.activeElement.blur(), true)")
	back := s.submit(map[string]any{"workflow": steps(2, 0.01)})
	p.until("the new job", fmt.Sprintf(`document.getElementById("job-%s")`, back))
}

// TestWhatIsWrongInAClosedPartOfTheFormIsShown sends the form with mistakes that only its closed part can show.
func TestWhatIsWrongInAClosedPartOfTheFormIsShown(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=0")
	p := signedIn(t, s, adminEmail)
	p.expect("422") // the refusal
	for _, field := range []struct{ name, id, wrong string }{{"the browser's refusal", "p-batch_size", "99"}, {"the server's refusal", "p-width", "wide"}} {
		p.open("/run/text-to-image")
		p.until("a closed part", fmt.Sprintf(`!document.getElementById(%q).checkVisibility()`, field.id))
		mustEval[bool](p, fmt.Sprintf(`(document.getElementById(%q).value = %q, true)`, field.id, field.wrong))
		p.click("[data-testid=run]")
		p.until(field.name, fmt.Sprintf(`document.getElementById(%q).checkVisibility()`, field.id))
		p.until("the focus on it", fmt.Sprintf(`document.activeElement.id === %q`, field.id))
	}
	p.see("#p-width-err", "number")
}
