package proc

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func itoa(n int) string { return strconv.Itoa(n) }

// killedServer starts a server that starts a worker, and kills the server with SIGKILL.
func killedServer(t *testing.T) (s Spec, pid int) {
	t.Helper()
	dir := t.TempDir()
	s = Spec{Name: "gpu0", LogFile: filepath.Join(dir, "worker.log"), StateFile: filepath.Join(dir, "state.json")}
	t.Cleanup(func() { require.NoError(t, KillLeftover(t.Context(), s)) })
	server := exec.Command(os.Args[0], "server", dir)
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err = strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.NoError(t, server.Process.Kill())
	_ = server.Wait()
	return s, pid
}

func TestTheNextServerAdoptsAndLearnsTheExitCode(t *testing.T) {
	s, pid := killedServer(t)
	p, ok, err := Adopt(s)
	require.NoError(t, err)
	require.True(t, ok)
	t.Cleanup(p.Detach)
	require.Equal(t, pid, p.PID())
	require.Equal(t, 4711, p.Port())
	require.Equal(t, map[string]string{"client": "c1"}, p.Meta())
	require.Equal(t, "worker", p.Argv()[1])
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(s.StateFile), "go"), nil, 0o600))
	e := awaitDone(t, p)
	require.Equal(t, 7, e.Code)
	require.True(t, e.Seen)
}

func TestAnExitWhileNoServerWasThereIsStillKnown(t *testing.T) {
	s, pid := killedServer(t)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(s.StateFile), "go"), nil, 0o600))
	gone(t, pid)
	p, ok, err := Adopt(s)
	require.NoError(t, err)
	require.False(t, ok)
	require.NotNil(t, p)
	require.Equal(t, 7, awaitDone(t, p).Code)
}

func TestAnAdoptedProcessCanBeStopped(t *testing.T) {
	s, _ := killedServer(t)
	awaitLog(t, s, "up")
	p, ok, err := Adopt(s)
	require.NoError(t, err)
	require.True(t, ok)
	s.StopGrace = 1
	p.Kill()
	require.Equal(t, "SIGKILL", awaitDone(t, p).Signal)
}

func TestADetachedProcessRunsOn(t *testing.T) {
	both(t, func(t *testing.T, shim bool) {
		s := spec(t, shim, "print=up", "wait")
		p := mustStart(t, s)
		awaitLog(t, s, "up")
		p.Detach()
		p.Kill() // has no reach any more
		q, ok, err := Adopt(s)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, p.PID(), q.PID())
		e, err := q.Stop(t.Context())
		require.NoError(t, err)
		require.Equal(t, shim, e.Seen, "only a shim can tell")
		select {
		case <-p.Done():
			t.Fatal("a detached process does not report")
		default:
		}
	})
}

// edit changes the state file as a reused number or a reboot would make it look.
func edit(t *testing.T, s Spec, change func(*state)) {
	t.Helper()
	raw, err := os.ReadFile(s.StateFile)
	require.NoError(t, err)
	var st state
	require.NoError(t, json.Unmarshal(raw, &st))
	change(&st)
	require.NoError(t, writeJSON(s.StateFile, st))
}

func TestAStrangerIsNotAdopted(t *testing.T) {
	stranger := spec(t, false, "print=up", "wait")
	other := mustStart(t, stranger)
	awaitLog(t, stranger, "up")
	for name, change := range map[string]func(*state){
		"number reused":  func(st *state) { st.Worker = identity{PID: other.PID(), Start: 1} },
		"shim too":       func(st *state) { st.Worker = identity{PID: other.PID(), Start: 1}; st.Shim = st.Worker },
		"earlier boot":   func(st *state) { st.BootID = "11111111-2222-3333-4444-555555555555"; st.Worker = other.state.Worker },
		"no worker yet":  func(st *state) { st.Worker = identity{} },
		"nothing at all": func(st *state) { st.Worker, st.Shim = identity{}, identity{} },
		"other version":  func(st *state) { st.Version = 99; st.Worker = other.state.Worker },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, false, "exit=0")
			awaitDone(t, mustStart(t, s))
			edit(t, s, change)
			_, ok, err := Adopt(s)
			require.NoError(t, err)
			require.False(t, ok)
			require.NoError(t, KillLeftover(t.Context(), s))
			require.NoFileExists(t, s.StateFile)
			require.Positive(t, other.RSS(), "the stranger was not touched")
		})
	}
}

func TestAnUnreadableStateFileIsNoState(t *testing.T) {
	s := spec(t, true, "exit=0")
	require.NoError(t, os.MkdirAll(filepath.Dir(s.StateFile), 0o700))
	require.NoError(t, os.WriteFile(s.StateFile, []byte("{half"), 0o600))
	p, ok, err := Adopt(s)
	require.NoError(t, err)
	require.False(t, ok)
	require.Nil(t, p)
	awaitDone(t, mustStart(t, s))
}

func TestKillLeftoverEndsAllThatAnEarlierServerLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	s := spec(t, true, "stubborn", "child="+file, "print=up", "wait")
	p := mustStart(t, s)
	awaitLog(t, s, "up")
	child, shim := readPID(t, file), p.shim.id.PID
	p.Detach()
	s.StopGrace = 1
	require.NoError(t, KillLeftover(t.Context(), s))
	gone(t, p.PID())
	gone(t, child)
	gone(t, shim)
	require.NoFileExists(t, s.StateFile)
	require.NoError(t, KillLeftover(t.Context(), s), "nothing left is fine")
}

func TestAShimThatDiedBeforeItKnewItsWorkerIsFoundByItsSession(t *testing.T) {
	s := spec(t, true, "print=up", "wait")
	p := mustStart(t, s)
	awaitLog(t, s, "up")
	edit(t, s, func(st *state) { st.Worker = identity{} })
	require.NoError(t, KillLeftover(t.Context(), s))
	gone(t, p.PID())
}
