package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSignInRefusesAWrongPasswordAndSlowsGuessingDown(t *testing.T) {
	inBrowser(t)
	s := startService(t, "COMFYFLEET_WORKERS=sim:1", "COMFYFLEET_MIN_READY=0")
	p := openTab(t, s.base)
	p.expect("401", "429") // the browser notes refused pages in its console
	p.open("/jobs?q=state:failed")
	require.Equal(t, "/signin?next=%2Fjobs%3Fq%3Dstate%3Afailed", p.path())
	p.fill("#email", adminEmail)
	p.fill("#password", "wrong")
	p.click(".login button")
	// What guesses on does not type: the first wait is a second, and must not pass with it.
	guess := `(() => {
		document.querySelector("#email").value = ` + quote(adminEmail) + `
		document.querySelector("#password").value = "wrong"
		setTimeout(() => document.querySelector("#password").form.requestSubmit())
		return true
	})()`
	answers := map[string]int{}
	for answers["Too many"] == 0 && answers["Email or"] < 9 { // at ten the whole address of the browser would have to wait
		p.until("an answer", `document.querySelector("[data-testid=problem]")`)
		said := mustEval[string](p, `(() => { const e = document.querySelector("[data-testid=problem]"); const t = e.innerText; e.remove(); return t.slice(0, 8) })()`)
		if answers[said]++; said == "Email or" {
			mustEval[bool](p, guess)
		}
	}
	require.GreaterOrEqual(t, answers["Email or"], 5, "mistakes that are free: %v", answers)
	require.Equal(t, 1, answers["Too many"], "%v", answers)

	// Another address is not locked out, and the right password leads to where the visitor wanted to go.
	s.addViewer()
	p.fill("#email", viewerEmail)
	p.fill("#password", adminPassword)
	p.click(".login button")
	p.see("h1", "Jobs")
	require.Equal(t, "/jobs?q=state:failed", p.path())

	p.click("[data-testid=signout]")
	p.see("h1", "Sign in")
	p.open("/jobs")
	p.see("h1", "Sign in")
}
