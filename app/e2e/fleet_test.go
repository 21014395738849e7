package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAWorkerIsDrainedResumedReadAndLost(t *testing.T) {
	inBrowser(t)
	s := startService(t)
	p := signedIn(t, s, adminEmail)
	p.open("/gpus")
	p.until("both cards", `document.querySelectorAll(".gpu").length === 2`)
	worker := strings.TrimPrefix(mustEval[string](p, `document.querySelector(".gpu [data-testid^=drain-]").dataset.testid`), "drain-")
	p.click("[data-testid=drain-" + worker + "]")
	p.see("[data-testid=toast]", "draining")
	p.see("[data-testid=resume-"+worker+"]", "Resume")
	p.click("[data-testid=resume-" + worker + "]")
	p.see("[data-testid=drain-"+worker+"]", "Drain")

	// Its log goes on while it is read.
	p.open("/gpus/" + worker)
	p.see("#worker-log", "Starting server")
	lines := mustEval[int](p, `document.querySelectorAll("#worker-log li").length`)
	jobs := []string{s.submit(map[string]any{"workflow": endless(0)}), s.submit(map[string]any{"workflow": endless(1)})}
	p.until("the log to go on", fmt.Sprintf(`document.querySelectorAll("#worker-log li").length > %d`, lines))
	p.until("its job", `document.querySelector(".gpu a[href^='/jobs/']")`)
	pid := p.pid()

	// Its process is killed: the page says so, and that it is back.
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	p.see("#worker-exits", strconv.Itoa(pid))
	p.see("#worker-exits", "SIGKILL")
	p.shot("worker-after-kill")
	p.until("another process", fmt.Sprintf(`document.querySelector("#worker-process").innerText.match(/\bPid\s+(\d+)/i)?.[1] > 0 && !document.querySelector("#worker-process").innerText.includes("%d")`, pid))

	// The page names the job that was lost. It runs again, elsewhere as soon as there is a place.
	lost, other := jobs[0], jobs[1]
	if strings.HasPrefix(other, mustEval[string](p, `document.querySelector("#worker-exits a.id").innerText`)) {
		lost, other = other, lost
	}
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+other, nil).status)
	require.Eventually(t, func() bool { return s.job(lost).Status == "running" }, patience, tick, "the lost job runs again")
	p.open("/jobs/" + lost)
	p.see("[data-testid=attempt]", "Attempt 2")
	p.see("[data-testid=state]", "running")
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+lost, nil).status)
}

// pid is the process that a worker's page names.
func (p *tab) pid() int {
	p.t.Helper()
	words := mustEval[string](p, `document.querySelector("#worker-process").innerText`)
	m := regexp.MustCompile(`(?i)\bpid\s+(\d+)`).FindStringSubmatch(words)
	require.NotNil(p.t, m, words)
	pid, err := strconv.Atoi(m[1])
	require.NoError(p.t, err)
	return pid
}

func TestAnOpenPageSaysThatItIsStaleAndRecovers(t *testing.T) {
	inBrowser(t)
	s := startService(t)
	p := signedIn(t, s, adminEmail)
	p.expect("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "502", "503")
	p.open("/overview")
	p.see("#sentence", "ready")
	mustEval[bool](p, "(window.marked = true)")
	s.stop()
	p.see("#stale", "Stale since")
	p.until("the numbers are marked", `document.querySelector("#main").hasAttribute("data-stale")`)
	p.shot("overview-stale")
	s.start()
	p.until("the banner goes", `document.getElementById("stale").hidden && !document.querySelector("[data-stale]")`)
	id := s.submit(map[string]any{"workflow": endless(0)})
	p.see("#running", "SimSteps")
	require.True(t, mustEval[bool](p, "window.marked"), "the page was not loaded again")
	require.Equal(t, 200, s.api("DELETE", "/v1/jobs/"+id, nil).status)
}
