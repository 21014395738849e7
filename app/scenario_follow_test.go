package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
	"comfyfleet/models/store"
)

// TestFollowersHearEveryStepOnceWhateverBreaks follows jobs over connections that are cut at random moments, while the
// server is stopped, killed and started again and an engine is killed as well. What each follower heard must be what the
// store holds: every step once and in order, and a progress that never falls.
func TestFollowersHearEveryStepOnceWhateverBreaks(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_SHUTDOWN_GRACE=0s")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()

	var base atomic.Value
	base.Store(s.base)
	var ids []string
	var watchers []*watcher
	var done sync.WaitGroup
	for i, length := range []int{100, 10_000, 10_000} { // one that completes, and two that are cancelled at last
		id := s.submit(steps(length, 0.02, i))
		ids = append(ids, id)
		for _, over := range []string{"events", "ws"} {
			w := &watcher{id: id, over: over, base: &base, dice: rand.New(rand.NewPCG(seed, uint64(len(watchers)+2)))}
			watchers = append(watchers, w)
			done.Go(func() { w.watch(ctx) })
		}
	}
	defer done.Wait()
	defer cancel()

	disturb(s, dice, &base)
	for _, id := range ids[1:] {
		require.Equal(t, 200, s.call("DELETE", "/v1/jobs/"+id, testKey, nil).status)
	}
	s.completed(ids[0])
	done.Wait()
	s.stop()
	steps := map[string][]models.Event{}
	s.withStore(func(st *store.Store) {
		for _, id := range ids {
			events, err := st.Events(t.Context(), id, 0, 1000)
			require.NoError(t, err)
			steps[id] = events
		}
	})
	cuts, resumed, changes := 0, 0, len(steps[ids[0]])+len(steps[ids[1]])+len(steps[ids[2]])
	for _, w := range watchers {
		t.Run(w.over+" "+w.id[:8], func(t *testing.T) { w.requireStory(t, steps[w.id]) })
		cuts += w.cuts
		resumed += w.resumed
	}
	t.Logf("%d steps of %d jobs, %d connections cut, %d resumed", changes, len(ids), cuts, resumed)
	require.Greater(t, changes, 20, "stored steps")
	require.Greater(t, cuts, 3*len(watchers), "connections that were cut")
	require.Greater(t, resumed, len(watchers), "connections that went on after a step")
}

// disturb ends the server in both ways, and an engine once, each time while something runs that has got on since the
// last time. A stop interrupts what runs, so that it waits, is claimed and starts once more.
func disturb(s *testServer, dice *rand.Rand, base *atomic.Value) {
	for i, end := range []func(){s.kill, s.stop, s.stop, s.kill, s.stop, s.stop} {
		reached := map[string]int{}
		for _, j := range s.list(testKey, "") {
			reached[j.JobID] = j.Progress
		}
		more := 1 + dice.IntN(3)
		s.eventually(func() bool {
			for _, j := range s.list(testKey, "") {
				if j.Status == "running" && (j.Progress >= reached[j.JobID]+more || s.job(j.JobID).Value >= 50) {
					return true // a job that begins again shows what it had reached before until it has passed it
				}
			}
			return false
		}, "a job has got on")
		if i == 3 {
			for _, w := range s.fleet() {
				if w.Executing != "" {
					require.NoError(s.t, syscall.Kill(w.PID, syscall.SIGKILL))
					break
				}
			}
		}
		end()
		s.start()
		base.Store(s.base)
	}
}

// heard is one message of a job's stream.
type heard struct {
	Event string `json:"event"`
	ID    int64  `json:"id"` // 0 for none
	Data  struct {
		Status   string `json:"status"`
		Phase    string `json:"phase"`
		Kind     string `json:"kind"`
		Revision int64  `json:"revision"`
		Progress int    `json:"progress"`
	} `json:"data"`
}

// watcher follows one job to its end over connections that it cuts itself, at random moments.
type watcher struct {
	id, over string
	base     *atomic.Value // of the server that runs now
	dice     *rand.Rand

	last          int64 // the newest id that was heard
	said          []heard
	ended         bool
	cuts, resumed int
}

// watch connects again and again until the last step was heard. It leaves what it heard for the test to judge.
func (w *watcher) watch(ctx context.Context) {
	again := time.NewTicker(10 * time.Millisecond) // nobody listens while the server starts
	defer again.Stop()
	for !w.ended && ctx.Err() == nil {
		listen := w.events
		if w.over == "ws" {
			listen = w.socket
		}
		before := len(w.said)
		_ = listen(ctx) // however it ended, the next connection goes on
		if w.last > 0 && len(w.said) > before {
			w.resumed++
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// dial connects and cuts the connection after a random time, as a network does: without a word.
func (w *watcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.cuts++
	time.AfterFunc(time.Duration(w.dice.IntN(400))*time.Millisecond, func() {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	})
	return conn, nil
}

func (w *watcher) header() http.Header {
	h := http.Header{"Authorization": {"Bearer " + testKey}}
	if w.last > 0 {
		h.Set("Last-Event-ID", strconv.FormatInt(w.last, 10))
	}
	return h
}

func (w *watcher) hear(h heard) {
	w.said = append(w.said, h)
	if h.ID > 0 {
		w.last = h.ID
	}
	if h.Event == "status" && (h.Data.Status == "completed" || h.Data.Status == "failed") {
		w.ended = true
	}
}

// events listens to server-sent events. One that is cut off in the middle is none.
func (w *watcher) events(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.Load().(string)+"/v1/jobs/"+w.id+"/events", nil)
	if err != nil {
		return err
	}
	req.Header = w.header()
	resp, err := (&http.Transport{DialContext: w.dial, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	var h heard
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			if h.ID, err = strconv.ParseInt(value, 10, 64); err != nil {
				return err
			}
		case "event":
			h.Event = value
		case "data":
			if err := json.Unmarshal([]byte(value), &h.Data); err != nil {
				return err
			}
		case "":
			if h.Event != "" {
				w.hear(h)
			}
			h = heard{}
		}
	}
}

func (w *watcher) socket(ctx context.Context) error {
	address := strings.Replace(w.base.Load().(string), "http://", "ws://", 1) + "/v1/jobs/" + w.id + "/ws"
	conn, resp, err := (&websocket.Dialer{NetDialContext: w.dial}).DialContext(ctx, address, w.header())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer resp.Body.Close()
	for {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		var h heard
		if err := json.Unmarshal(raw, &h); err != nil {
			return err
		}
		w.hear(h)
	}
}

// requireStory holds what was heard against the stored steps. Steps that are sent again to one who missed them say what
// the job was then; everything else is what it is now.
func (w *watcher) requireStory(t *testing.T, steps []models.Event) {
	require.NotEmpty(t, w.said)
	require.True(t, w.ended, "the end was not heard: %+v", w.said[len(w.said)-1])
	require.Equal(t, "snapshot", w.said[0].Event)
	next, shown, known := int64(0), 0, int64(0) // next step, progress now, revision of the newest snapshot
	for _, h := range w.said {
		switch h.Event {
		case "snapshot":
			require.GreaterOrEqual(t, h.Data.Revision, max(known, next-1), "an older snapshot than what was heard")
			known = h.Data.Revision
			if h.ID > 0 {
				require.Equal(t, h.Data.Revision, h.ID)
				require.True(t, next == 0 || next == h.ID+1, "a snapshot that skips steps: %+v", h)
				next = h.ID + 1
			}
		case "status":
			if next == 0 {
				next = h.ID // the job had ended: its last step is all that comes
				require.Equal(t, known, h.ID)
			}
			require.Equal(t, next, h.ID, "steps are lost or repeated")
			require.LessOrEqual(t, next, int64(len(steps)))
			step := steps[next-1]
			require.Equal(t, step.Rev, h.ID)
			require.Equal(t, step.Kind, h.Data.Kind)
			require.Equal(t, string(step.Phase), h.Data.Phase)
			require.Equal(t, step.Percent, h.Data.Progress)
			next++
			if h.ID <= known {
				continue // it was missed, and happened before the snapshot
			}
		case "progress":
		default:
			continue
		}
		require.GreaterOrEqual(t, h.Data.Progress, shown, "progress fell: %+v", h)
		shown = h.Data.Progress
	}
	require.Equal(t, int64(len(steps)), next-1, "the last step")
	require.Equal(t, steps[len(steps)-1].Percent, shown)
}

// TestStreamsEndInGoodOrderWithTheServer stops the server under open streams, one of which nobody reads: each is told,
// the stop takes no longer for them, and the next server goes on.
func TestStreamsEndInGoodOrderWithTheServer(t *testing.T) {
	s := startServer(t, quick, "COMFYFLEET_ON_SHUTDOWN=keep", "COMFYFLEET_WORKERS=sim:1")
	id := s.submit(steps(100_000, 0.01, 1))
	s.running(id)
	open := func() (*bufio.Reader, net.Conn) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "GET /v1/jobs/"+id+"/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+testKey+"\r\n\r\n")
		require.NoError(t, err)
		return bufio.NewReader(conn), conn
	}
	_, deaf := open()
	require.NoError(t, deaf.(*net.TCPConn).SetReadBuffer(4<<10))
	events, _ := open()
	line, err := events.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 200 OK\r\n", line)
	socket, resp, err := websocket.DefaultDialer.DialContext(t.Context(), strings.Replace(s.base, "http://", "ws://", 1)+"/v1/jobs/"+id+"/ws",
		http.Header{"Authorization": {"Bearer " + testKey}})
	require.NoError(t, err)
	defer resp.Body.Close()
	defer socket.Close()
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))

	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	whole, err := io.ReadAll(events)
	require.NoError(t, err, "the stream ends, it is not reset")
	require.True(t, strings.HasSuffix(string(whole), "\n\n"), "it ends with a whole event: %q", tail(string(whole), 100))
	for err == nil {
		_, _, err = socket.ReadMessage()
	}
	require.True(t, websocket.IsCloseError(err, websocket.CloseServiceRestart), "%v", err)
	<-s.done
	require.Zero(t, s.cmd.ProcessState.ExitCode())
	require.NotContains(t, s.log.String(), "requests were cut off", "nobody waits for a client that does not read")

	s.env = append(s.env, "COMFYFLEET_ON_SHUTDOWN=stop", "COMFYFLEET_SHUTDOWN_GRACE=0s")
	s.start()
	require.Equal(t, "running", s.job(id).Status)
	s.stop()
	s.requireNoProcesses()
}
