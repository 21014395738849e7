package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"comfyfleet/gpu/sim"
)

const (
	followedJobs = 64
	listeners    = 2000
	stalled      = 100
	followTime   = 8 * time.Second
	followAim    = 100 * time.Millisecond
	// stepCount is a number of steps that no other node has: it marks the events to time.
	stepCount = 99991
)

// followers is how late followers hear of a step: from the moment the engine sends it to the moment the event is read,
// while some followers read nothing. The engines are simulators in this process, so one clock tells both.
func followers(ctx context.Context, l *lab) ([]figure, error) {
	var sent stepTimes
	urls, err := l.simulators(followedJobs, &sent)
	if err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, l.file("data"), "COMFYFLEET_WORKERS=attached:"+strings.Join(urls, ","), "COMFYFLEET_MIN_READY="+fmt.Sprint(followedJobs))
	if err != nil {
		return nil, err
	}
	jobs, err := s.startJobs(followedJobs)
	if err != nil {
		return nil, err
	}
	var all crowd
	defer all.close()
	for i := range listeners {
		if err := all.follow(s, jobs[i%len(jobs)], i < stalled, &sent); err != nil {
			return nil, fmt.Errorf("follower %d: %w", i, err)
		}
	}
	all.reset()
	cpuBefore, err := s.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	select {
	case <-time.After(followTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	lags := all.lags()
	took := time.Since(began)
	cpuAfter, err := s.cpu()
	if err != nil {
		return nil, err
	}
	now, _, err := s.memory()
	if err != nil {
		return nil, err
	}
	if len(lags) < listeners {
		return nil, fmt.Errorf("only %d events were heard", len(lags))
	}
	p99 := lags.at(0.99)
	return []figure{
		{name: fmt.Sprintf("%d followers, %d stalled: p99 lag of the others", listeners, stalled), value: ms(p99), against: "median " + ms(lags.at(0.5)),
			aim: "< 100 ms", met: p99 < followAim},
		{name: "  deliveries and memory meanwhile", value: rate(perSecond(len(lags), took)), against: mb(now) + " of memory"},
		{name: "  processor time of the service", value: fmt.Sprintf("%.0f %%", 100*(cpuAfter-cpuBefore).Seconds()/took.Seconds()), against: "100 % of one core",
			ratio: (cpuAfter - cpuBefore).Seconds() / took.Seconds()},
	}, nil
}

// simulators starts engines in this process that note in sent when they send a step.
func (l *lab) simulators(n int, sent *stepTimes) (urls []string, err error) {
	for i := range n {
		engine, err := sim.New(sim.Options{TestNodes: true, BaseDir: l.file(fmt.Sprint("sim", i))})
		if err != nil {
			return nil, err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, engine.Close())
		}
		web := &http.Server{Handler: engine.Handler(), ReadHeaderTimeout: 10 * time.Second}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = web.Serve(tapped{ln, sent})
		}()
		l.cleanups = append(l.cleanups, func() error {
			err := errors.Join(web.Close(), engine.Close())
			<-ended
			return err
		})
		urls = append(urls, "http://"+ln.Addr().String())
	}
	return urls, nil
}

// startJobs submits jobs that take steps for longer than the bench and waits until all run. Every eighth sends previews.
func (s *service) startJobs(n int) (ids []string, err error) {
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	plain, shown := stepGraphs(stepCount, 0.25), stepGraphs(stepCount, 0.1)
	shown.text = strings.Replace(shown.text, `"preview":false`, `"preview":true`, 1)
	for i := range n {
		g := plain
		if i%8 == 0 {
			g = shown
		}
		j, err := c.submit(g.request(nil))
		if err != nil {
			return nil, err
		}
		ids = append(ids, j.ID)
	}
	for _, id := range ids {
		if err := c.await(id, "running"); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// stepTimes are when an engine first sent a step of a prompt.
type stepTimes struct{ byStep sync.Map }

func (t *stepTimes) note(message []byte) {
	value, ok := between(message, `"value":`, `,"max":`+strconv.Itoa(stepCount))
	if !ok {
		return
	}
	if prompt, ok := between(message, `"prompt_id":"`, `"`); ok {
		t.byStep.LoadOrStore(prompt+"/"+value, time.Now())
	}
}

func (t *stepTimes) lag(prompt, value string, now time.Time) (time.Duration, bool) {
	at, ok := t.byStep.Load(prompt + "/" + value)
	if !ok {
		return 0, false
	}
	return now.Sub(at.(time.Time)), true
}

// between is what stands between the last before that precedes after, and after.
func between(message []byte, before, after string) (string, bool) {
	var end int
	if len(after) > 1 {
		if end = bytes.Index(message, []byte(after)); end < 0 {
			return "", false
		}
		start := bytes.LastIndex(message[:end], []byte(before))
		if start < 0 {
			return "", false
		}
		return string(message[start+len(before) : end]), true
	}
	start := bytes.Index(message, []byte(before))
	if start < 0 {
		return "", false
	}
	rest := message[start+len(before):]
	if end = bytes.IndexAny(rest, after); end < 0 {
		return "", false
	}
	return string(rest[:end]), true
}

// tapped is a listener whose connections note what is written to them.
type tapped struct {
	net.Listener
	sent *stepTimes
}

func (t tapped) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tappedConn{conn, t.sent}, nil
}

type tappedConn struct {
	net.Conn
	sent *stepTimes
}

func (c tappedConn) Write(p []byte) (int, error) {
	c.sent.note(p)
	return c.Conn.Write(p)
}

// crowd are the followers. Each has a goroutine until close.
type crowd struct {
	conns []*client
	done  sync.WaitGroup

	mu    sync.Mutex
	heard times
}

// follow opens a stream of a job. A deaf follower never reads.
func (f *crowd) follow(s *service, jobID string, deaf bool, sent *stepTimes) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	f.conns = append(f.conns, c)
	if deaf {
		// A small window, so that the server's writes fill it soon.
		if err := c.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			return err
		}
	}
	if err := c.request(http.MethodGet, "/v1/jobs/"+jobID+"/events", 0, nil); err != nil {
		return err
	}
	if deaf {
		return nil
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	f.done.Go(func() {
		defer resp.Body.Close()
		f.listen(bufio.NewReaderSize(resp.Body, 4<<10), sent)
	})
	return nil
}

// listen times the steps of a stream until it ends.
func (f *crowd) listen(r *bufio.Reader, sent *stepTimes) {
	last, event := "", ""
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // a preview does not fit, and is not looked at
			return
		}
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			event = string(bytes.TrimSpace(name))
			continue
		}
		if event != "progress" || !bytes.HasPrefix(line, []byte("data: ")) {
			continue
		}
		now := time.Now()
		value, _ := between(line, `"progress_value":`, ",")
		prompt, _ := between(line, `"prompt_id":"`, `"`)
		if value == last {
			continue
		}
		last = value
		if lag, ok := sent.lag(prompt, value, now); ok {
			f.mu.Lock()
			f.heard = append(f.heard, lag)
			f.mu.Unlock()
		}
	}
}

// reset forgets what was heard while the crowd gathered.
func (f *crowd) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = nil
}

func (f *crowd) lags() times {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard
}

func (f *crowd) close() {
	for _, c := range f.conns {
		c.close()
	}
	f.done.Wait()
}
