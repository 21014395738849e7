package client

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// screen is the part of a terminal that Display uses: lines, cursor up and erase below.
type screen struct {
	mu    sync.Mutex
	lines []string
	most  int // widest line
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(p)
	for text != "" {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			up, after, _ := strings.Cut(rest, "A\r\x1b[J")
			n := 0
			for _, c := range up {
				n = 10*n + int(c-'0')
			}
			s.lines = s.lines[:len(s.lines)-n]
			text = after
			continue
		}
		line, after, _ := strings.Cut(text, "\n")
		s.lines = append(s.lines, line)
		s.most = max(s.most, len([]rune(line)))
		text = after
	}
	return len(p), nil
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

func strPtr(s string) *string { return &s }
func intPtr(n int) *int       { return &n }

// still makes a display whose clock stands still until it is moved.
func still(t *testing.T, out *screen, width int) (*Display, *time.Time) {
	d := NewDisplay(out, true, func() int { return width })
	at := time.Unix(1000, 0)
	d.mu.Lock()
	d.now = func() time.Time { return at }
	d.mu.Unlock()
	return d, &at
}

func TestATerminalShowsOneLineForEachJob(t *testing.T) {
	var s screen
	d, at := still(t, &s, 120)
	move := func(by time.Duration) {
		d.mu.Lock()
		*at = at.Add(by)
		d.mu.Unlock()
	}
	a := d.Add("a.json", map[string]string{"71": "WanVideoSampler"})
	b := d.Add("b.json", nil)
	a.Update(Job{Status: StatusQueued, QueuePosition: intPtr(3), WaitingReason: strPtr("all cards are busy")})
	move(5 * time.Second)
	a.Update(Job{Status: StatusRunning})
	move(20 * time.Second)
	a.Update(Job{Status: StatusRunning, Progress: 50, NodesDone: 11, NodesTotal: 25, CurrentNode: strPtr("71"), ProgressValue: 9, ProgressMax: 24})
	b.Note("rate limited; again in 7s")
	require.Equal(t, "a.json  ████████████░░░░░░░░░░░░   50%  node 11/25  WanVideoSampler 9/24  0:20  about 0:20 left\n"+
		"b.json  rate limited; again in 7s", s.text())
	a.Done("done in 0:25")
	require.Equal(t, "a.json: done in 0:25\nb.json  rate limited; again in 7s", s.text())
	move(time.Hour)
	b.Update(Job{Status: StatusRunning, Progress: 1, CurrentNode: strPtr("5"), Stalled: true})
	require.Equal(t, "a.json: done in 0:25\nb.json  ░░░░░░░░░░░░░░░░░░░░░░░░    1%  at node 5  no news for a while  0:00", s.text())
	d.Println("something that stays")
	d.Close()
	require.Equal(t, "a.json: done in 0:25\nsomething that stays", s.text())
}

func TestLinesAreCutToTheTerminal(t *testing.T) {
	var s screen
	d, _ := still(t, &s, 40)
	r := d.Add(strings.Repeat("n", 100), nil)
	r.Update(Job{Status: StatusQueued})
	require.Equal(t, 39, s.most, "a wrapped line could not be erased")
	d.Close()
	require.Empty(t, s.text())
}

func TestWithoutATerminalAJobSaysAFewLines(t *testing.T) {
	var out bytes.Buffer
	d := NewDisplay(&out, false, nil)
	r := d.Add("a.json", nil)
	r.Update(Job{Status: StatusQueued})
	for p := range 100 {
		r.Update(Job{Status: StatusRunning, Progress: p, CurrentNode: strPtr("5\x1b[2J")})
	}
	r.Done("done")
	d.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 12)
	require.NotContains(t, out.String(), "\x1b")
	require.Equal(t, "a.json: done", lines[11])
}
