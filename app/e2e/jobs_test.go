package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAJobIsCanceledAndRetriedFromItsPage(t *testing.T) {
	inBrowser(t)
	s := startService(t)
	p := signedIn(t, s, adminEmail)
	id := s.submit(map[string]any{"workflow": endless(0)})
	p.open("/jobs/" + id)
	p.see("[data-testid=state]", "running")
	p.click("[data-testid=cancel]")
	p.click("dialog[open] .btn--danger")
	p.see("[data-testid=state]", "canceled")
	require.Equal(t, "Cancelled by user", s.finish(id, "failed").Error)

	short := s.submit(map[string]any{"workflow": steps(2, 0.01)})
	s.finish(short, "completed")
	p.open("/jobs/" + short)
	p.see("[data-testid=state]", "succeeded")
	p.click("[data-testid=retry]")
	p.until("the new job's page", fmt.Sprintf(`location.pathname.startsWith("/jobs/") && !location.pathname.includes(%q)`, short))
	p.see("[data-testid=state]", "succeeded")
	p.until("its picture", `document.querySelector("[data-testid=output] img")?.naturalWidth > 0`)
}

func TestJobsAppearWithoutReloadAndAFilteredSelectionIsCanceled(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=1")
	first := s.submit(map[string]any{"workflow": endless(0)})
	p := signedIn(t, s, adminEmail)
	p.open("/jobs")
	p.see("#job-"+first, "running")

	// With the pointer in the list nothing may move: new jobs gather in a bar. No picture is taken here, for that takes the
	// pointer off the page.
	mustEval[bool](p, `(window.marked = true)`)
	p.hover("#job-" + first)
	var waiting []string
	for range 3 {
		waiting = append(waiting, s.submit(map[string]any{"workflow": endless(1)}))
	}
	p.see("[data-testid=fresh]", "3 new jobs")
	require.Equal(t, 1, mustEval[int](p, `document.querySelectorAll("[data-testid=job-row]").length`))
	p.click("[data-testid=fresh]")
	p.see("#job-"+waiting[2], "queued")
	require.True(t, mustEval[bool](p, "window.marked"), "the page was not loaded again")

	// Out of the list's way, a new row comes by itself.
	p.hover("#sentence")
	mustEval[bool](p, `(document.activeElement.blur(), true)`)
	waiting = append(waiting, s.submit(map[string]any{"workflow": endless(2)}))
	p.see("#job-"+waiting[3], "queued")
	require.True(t, mustEval[bool](p, "window.marked"))

	p.fill(".filterbar input[name=add]", "state:queued")
	p.click(".filterbar .btn")
	p.see("[data-testid=chip]", "queued")
	p.until("only what waits", `document.querySelectorAll("[data-testid=job-row]").length === 4`)
	p.click("[data-select-all]")
	p.see("[data-testid=bulk]", "Cancel 4 jobs")
	p.shot("jobs-selected")
	p.click("[data-bulk=cancel]")
	p.see("#bulk-confirm h2", "Cancel 4 jobs?")
	p.click("[data-testid=bulk-do]")
	p.see("[data-testid=toast]", "4 jobs canceled")
	for _, id := range waiting {
		require.Equal(t, "Cancelled by user", s.finish(id, "failed").Error)
	}
	require.Equal(t, "running", s.job(first).Status, "what was not selected goes on")
}

func TestTheListIsWalkedWithTheKeyboard(t *testing.T) {
	inBrowser(t)
	s := startService(t)
	first, second := s.submit(map[string]any{"workflow": steps(1, 0.01)}), s.submit(map[string]any{"workflow": steps(2, 0.01)})
	s.finish(first, "completed")
	s.finish(second, "completed")
	p := signedIn(t, s, adminEmail)
	p.press("g")
	p.press("j")
	p.see("h1", "Jobs")
	p.until("the page with its scripts", `document.readyState === "complete"`)
	p.press("j")
	p.press("j")
	p.press("x")
	p.see("[data-testid=bulk]", "1 selected")
	p.until("the second row is chosen", fmt.Sprintf(`document.getElementById("job-%s").getAttribute("aria-selected") === "true"`, first))
	p.press("?")
	p.see("#help", "Keyboard")
}

// TestCursorAndSelectionSurviveWhatTheServerSends has every row sent again between the keys, and then the whole list.
func TestCursorAndSelectionSurviveWhatTheServerSends(t *testing.T) {
	inBrowser(t)
	s := startService(t)
	var ids []string
	for i := range 3 {
		ids = append([]string{s.submit(map[string]any{"workflow": steps(i+1, 0.01)})}, ids...)
		s.finish(ids[0], "completed")
	}
	p := signedIn(t, s, adminEmail)
	p.open("/jobs")
	p.until("the page with its scripts", `document.readyState === "complete"`)
	for range 2 {
		p.press("j")
		p.snapshot()
	}
	p.press("x")
	p.snapshot()
	state := func() (rows []string) {
		return mustEval[[]string](p, `[...document.querySelectorAll("tr[data-row]")].map((r) =>
			[r.getAttribute("aria-current"), r.getAttribute("aria-selected"), r.querySelector("[data-select]").checked].join(" "))`)
	}
	none, chosen := "  false", "true true true"
	require.Equal(t, []string{none, chosen, none}, state())
	p.see("[data-testid=bulk]", "1 selected")

	// A newer job, let in, makes the list anew. Cursor and selection stay with their job.
	fresh := s.submit(map[string]any{"workflow": steps(4, 0.01)})
	p.click("[data-testid=fresh]")
	p.until("the new row", fmt.Sprintf(`document.getElementById("job-%s")`, fresh))
	p.until("the row that was chosen", fmt.Sprintf(`document.getElementById("job-%s").hasAttribute("aria-current")`, ids[1]))
	require.Equal(t, []string{none, none, chosen, none}, state())
	p.press("k")
	p.press("x")
	p.see("[data-testid=bulk]", "2 selected")
	require.Equal(t, []string{none, "true true true", " true true", none}, state())
}
