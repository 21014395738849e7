package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func logFile(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "worker.log")
	require.NoError(t, os.WriteFile(f, []byte(text), 0o600))
	return f
}

func TestTailShowsWhatATerminalWouldShow(t *testing.T) {
	f := logFile(t, "\x1b[32m[INFO]\x1b[0m got prompt\r\n"+
		"\r 10%|#   | 1/4\r 50%|##  | 2/4\r100%|####| 4/4\n\n"+
		"\x1b]0;a title\x07done\x00 \tnow\n"+
		"broken \xff byte\n"+
		"unfinished")
	lines, err := Tail(f, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"[INFO] got prompt", "100%|####| 4/4", "done \tnow", "broken \uFFFD byte", "unfinished"}, lines)
	lines, err = Tail(f, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"broken \uFFFD byte", "unfinished"}, lines)
}

func TestTailReadsOnlyTheEndOfALongLog(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	f := logFile(t, b.String())
	lines, err := Tail(f, 3)
	require.NoError(t, err)
	require.Equal(t, []string{"line 99997", "line 99998", "line 99999"}, lines)
	all, err := Tail(f, 1<<30)
	require.NoError(t, err)
	require.Less(t, len(all), 100_000)
	require.True(t, strings.HasPrefix(all[0], "line "), "half a line is not shown: %q", all[0])
}

func TestTailSinceLeavesOutWhatWasThereBefore(t *testing.T) {
	f := logFile(t, "the last run\n")
	at := LogSize(f)
	require.NoError(t, os.WriteFile(f, []byte("the last run\nusage: main.py\n"), 0o600))
	lines, err := TailSince(f, at, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"usage: main.py"}, lines)

	require.NoError(t, os.WriteFile(f, []byte("new\n"), 0o600))
	lines, err = TailSince(f, at, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"new"}, lines, "the log was cut meanwhile")
}

func TestTailGoesOnIntoTheOldLog(t *testing.T) {
	f := logFile(t, "c\n")
	require.NoError(t, os.WriteFile(f+".1", []byte("a\nb\n"), 0o600))
	lines, err := Tail(f, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "c"}, lines)
}

func TestALogThatIsNotThereHasNoLines(t *testing.T) {
	f := filepath.Join(t.TempDir(), "none")
	lines, err := Tail(f, 5)
	require.NoError(t, err)
	require.Empty(t, lines)
	require.Zero(t, LogSize(f))
}

func TestAnEndlessLineIsCut(t *testing.T) {
	lines, err := Tail(logFile(t, strings.Repeat("é", 9000)+"\n"), 1)
	require.NoError(t, err)
	require.Less(t, len(lines[0]), lineLimit+10)
	require.True(t, strings.HasSuffix(lines[0], "é …"))
}

func TestEndsAreExplainedInPlainWords(t *testing.T) {
	for want, e := range map[string]Exit{
		"exit 0: it ended by itself":        {Seen: true},
		"exit 2: a flag was not understood": {Code: 2, Seen: true},
		"exit 42":                           {Code: 42, Seen: true},
		"exit 139: a process that it ran was ended by signal 11":            {Code: 139, Seen: true},
		"killed by signal 9 (SIGKILL), likely the out-of-memory killer":     {Code: -1, Signal: "SIGKILL", Seen: true},
		"killed by signal 11 (SIGSEGV): a crash in native code":             {Code: -1, Signal: "SIGSEGV", Seen: true},
		"killed by signal 15 (SIGTERM): somebody asked it to end":           {Code: -1, Signal: "SIGTERM", Seen: true},
		"killed by signal 10 (SIGUSR1)":                                     {Code: -1, Signal: "SIGUSR1", Seen: true},
		"ended, and nobody saw how":                                         {Code: -1},
		"exit 1: an error that ended the program, see its last log lines":   {Code: 1, Seen: true},
		"exit 255: a part that it needs is missing, see its last log lines": {Code: 255, Seen: true},
		"killed by signal 6 (SIGABRT): native code gave up (abort)":         {Code: -1, Signal: "SIGABRT", Seen: true},
	} {
		require.Equal(t, want, Explain(e))
	}
}

func TestAProgramNameCannotFakeAProcessEntry(t *testing.T) {
	e, err := parseStat([]byte("42 (a) Z 1 (b)) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 1000 3 0 0\n"))
	require.NoError(t, err)
	require.Equal(t, identity{PID: 42, Start: 12345}, e.identity)
	require.Equal(t, []int{7, 8, 9}, []int{e.Parent, e.Group, e.Session})
	require.Equal(t, byte('S'), e.State)
	for _, bad := range []string{"", "42", "42 (x)", "42 (x) S 1 2", ")("} {
		_, err := parseStat([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestAFreePortCanBeListenedOn(t *testing.T) {
	port, err := FreePort()
	require.NoError(t, err)
	require.Greater(t, port, 1023)
}
