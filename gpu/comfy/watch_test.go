package comfy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
)

const patience = 30 * time.Second

// peer is the engine's end of one WebSocket.
type peer struct {
	t     *testing.T
	conn  *websocket.Conn
	query string
	auth  string
}

// sockets is an engine that has nothing but its WebSocket. refuse makes it answer so many dials with 503.
type sockets struct {
	*httptest.Server
	peers  chan *peer
	refuse atomic.Int32
	dials  atomic.Int32
}

func newSockets(t *testing.T) *sockets {
	t.Helper()
	s := unstarted(t)
	s.Start()
	return s
}

func unstarted(t *testing.T) *sockets {
	t.Helper()
	s := &sockets{peers: make(chan *peer, 8)}
	up := websocket.Upgrader{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.dials.Add(1)
		if s.refuse.Add(-1) >= 0 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		s.peers <- &peer{t: t, conn: conn, query: r.URL.RawQuery, auth: r.Header.Get("Authorization")}
	}))
	t.Cleanup(s.Close)
	return s
}

// next is the next connection, with its flags read.
func (s *sockets) next(t *testing.T) *peer {
	t.Helper()
	select {
	case p := <-s.peers:
		t.Cleanup(func() { _ = p.conn.Close() })
		kind, raw, err := p.conn.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, websocket.TextMessage, kind)
		require.JSONEq(t, `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`, string(raw), "must be the first message")
		return p
	case <-time.After(patience):
		t.Fatal("nobody dialled")
		return nil
	}
}

func (p *peer) say(text string) {
	p.t.Helper()
	require.NoError(p.t, p.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

func (p *peer) greet() {
	p.t.Helper()
	p.say(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}},"sid":"x"}}`)
}

// serve answers pings and close frames until the connection ends, and returns how it ended.
func (p *peer) serve() <-chan error {
	end := make(chan error, 1)
	go func() {
		for {
			if _, _, err := p.conn.ReadMessage(); err != nil {
				end <- err
				return
			}
		}
	}()
	return end
}

// watching is a Watch that runs.
type watching struct {
	t      *testing.T
	events chan gpu.Event
	ended  chan error
	stop   context.CancelFunc
}

func watch(t *testing.T, url string, o Options, change ...func(*Client)) *watching {
	t.Helper()
	if o.RedialMin == 0 {
		o.RedialMin, o.RedialMax = time.Millisecond, 10*time.Millisecond
	}
	c := New(url, o)
	for _, f := range change {
		f(c)
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &watching{t: t, events: make(chan gpu.Event, 1000), ended: make(chan error, 1), stop: stop}
	go func() { w.ended <- c.Watch(ctx, "fleet 1", func(e gpu.Event) { w.events <- e }) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-w.ended:
			w.ended <- err // for the test that looks at it too
		case <-time.After(patience):
			t.Error("Watch did not end")
		}
		_ = c.Close()
	})
	return w
}

func (w *watching) next(want gpu.EventKind) gpu.Event {
	w.t.Helper()
	select {
	case e := <-w.events:
		require.Equal(w.t, want, e.Kind)
		require.False(w.t, e.At.IsZero())
		return e
	case <-time.After(patience):
		require.Fail(w.t, "no event", "waiting for kind %d", want)
		return gpu.Event{}
	}
}

func (w *watching) none() {
	w.t.Helper()
	select {
	case e := <-w.events:
		require.Fail(w.t, "unexpected event", "%+v", e)
	default:
	}
}

func TestWatchHearsAPromptFromItsStart(t *testing.T) {
	s := newSockets(t)
	w := watch(t, s.URL, Options{})
	p := s.next(t)
	require.Equal(t, "clientId=fleet+1", p.query)
	w.none() // connected is when the engine has registered us, which its first message shows
	p.greet()
	w.next(gpu.EventConnected)
	w.next(gpu.EventStatus)
	for _, text := range []string{
		`{"type":"feature_flags","data":{}}`, `{"type":"execution_start","data":{"prompt_id":"p"}}`, `{broken`,
		`{"type":"executing","data":{"node":"1","display_node":"1","prompt_id":"p"}}`} {
		p.say(text)
	}
	require.NoError(t, p.conn.WriteMessage(websocket.BinaryMessage, bin(1, 1, "jpg")))
	require.NoError(t, p.conn.WriteMessage(websocket.BinaryMessage, bin(77)))
	p.say(`{"type":"executing","data":{"node":null,"prompt_id":"p"}}`)
	w.next(gpu.EventStart)
	require.Equal(t, "1", w.next(gpu.EventNode).Node)
	require.Equal(t, "jpg", string(w.next(gpu.EventPreview).Image))
	require.Equal(t, "p", w.next(gpu.EventEnd).PromptID)

	end := p.serve()
	w.stop()
	require.True(t, websocket.IsCloseError(<-end, websocket.CloseNormalClosure), "the engine was told")
	err := <-w.ended
	require.ErrorIs(t, err, context.Canceled)
	w.ended <- err
	w.none()
}

func TestWatchComesBackAfterALoss(t *testing.T) {
	s := newSockets(t)
	w := watch(t, s.URL, Options{})
	for range 3 {
		p := s.next(t) // with the flags again: the engine forgets them
		p.greet()
		w.next(gpu.EventConnected)
		w.next(gpu.EventStatus)
		require.NoError(t, p.conn.Close())
		w.next(gpu.EventDisconnected)
	}
	p := s.next(t)
	p.greet()
	w.next(gpu.EventConnected)
	p.serve()
}

func TestWatchWaitsForAnEngineThatIsNotUpYet(t *testing.T) {
	s := newSockets(t)
	s.refuse.Store(3)
	w := watch(t, s.URL, Options{})
	p := s.next(t)
	p.greet()
	w.next(gpu.EventConnected)
	require.EqualValues(t, 4, s.dials.Load())
	p.serve()
}

// pipes is a listener of connections in memory, whose deadlines follow the clock of a synctest bubble.
type pipes struct {
	net.Listener // of nothing but an address
	conns        chan net.Conn
	once         sync.Once
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8188} }

// greeted is a Watch that is connected to a peer in memory, in a bubble whose time passes at once. The peer reads only
// when told to.
func greeted(t *testing.T, test func(t *testing.T, s *sockets, p *peer, w *watching)) {
	synctest.Test(t, func(t *testing.T) {
		s, l := unstarted(t), &pipes{conns: make(chan net.Conn, 1)}
		s.Listener.Close()
		s.Listener = l
		s.Start()
		w := watch(t, s.URL, Options{}, func(c *Client) { c.dials = l.dial })
		p := s.next(t)
		p.greet()
		w.next(gpu.EventConnected)
		w.next(gpu.EventStatus)
		test(t, s, p, w)
	})
}

func TestTheOldConnectionIsClosedBeforeTheNextDial(t *testing.T) {
	greeted(t, func(t *testing.T, s *sockets, p *peer, w *watching) {
		// A frame that is against the protocol makes the client give the connection up.
		old := p.conn.UnderlyingConn()
		_, err := old.Write([]byte{0xff, 0xff, 0xff})
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, old) // until it is closed, before any time has passed
		require.NoError(t, err)
		require.EqualValues(t, 1, s.dials.Load(), "dialled again while the old connection was open")
		w.next(gpu.EventDisconnected)
		s.next(t).serve()
	})
}

func TestAPeerThatIsSilentIsGivenUp(t *testing.T) {
	greeted(t, func(t *testing.T, s *sockets, p *peer, w *watching) {
		p.conn.SetPingHandler(func(string) error { return nil })
		p.serve()
		time.Sleep(20*time.Second - 1)
		w.none()
		w.next(gpu.EventDisconnected)
		s.next(t).serve()
	})
}

func TestAPeerThatOnlyAnswersPingsIsKept(t *testing.T) {
	greeted(t, func(t *testing.T, _ *sockets, p *peer, w *watching) {
		p.serve()
		time.Sleep(time.Hour)
		w.none()
	})
}

func TestAnEngineThatNeverGreetsIsNotConnected(t *testing.T) {
	s := newSockets(t)
	w := watch(t, s.URL, Options{})
	p := s.next(t)
	end := p.serve()
	w.stop()
	require.True(t, websocket.IsCloseError(<-end, websocket.CloseNormalClosure))
	err := <-w.ended
	w.ended <- err
	w.none()
}

func TestWatchEndsAlthoughThePeerDoesNotAnswer(t *testing.T) {
	greeted(t, func(t *testing.T, _ *sockets, p *peer, w *watching) {
		p.conn.SetCloseHandler(func(int, string) error { return nil })
		p.serve()
		began := time.Now()
		w.stop()
		err := <-w.ended
		w.ended <- err
		require.Equal(t, closeWait, time.Since(began))
	})
}

// The engine forgets the client id with its answer: who came back before would go silent.
func TestWatchEndsNoSoonerThanTheEngineHasAnswered(t *testing.T) {
	greeted(t, func(t *testing.T, _ *sockets, p *peer, w *watching) {
		bye := make(chan struct{})
		p.conn.SetCloseHandler(func(int, string) error { close(bye); return nil })
		p.serve()
		w.stop()
		<-bye
		p.greet() // what was on its way
		synctest.Wait()
		require.Empty(t, w.ended)
		require.NoError(t, p.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Time{}))
		synctest.Wait()
		require.Len(t, w.ended, 1)
	})
}

func TestTheSocketUsesPrefixAndPassword(t *testing.T) {
	s := newSockets(t)
	watch(t, strings.Replace(s.URL, "http://", "http://me:secret@", 1)+"/comfy", Options{})
	p := s.next(t)
	require.Equal(t, "Basic bWU6c2VjcmV0", p.auth)
	p.serve()
}

func TestAWrongAddressIsTriedUntilTheContextEnds(t *testing.T) {
	w := watch(t, "ftp://nowhere", Options{})
	w.stop()
	err := <-w.ended
	w.ended <- err
	require.ErrorIs(t, err, context.Canceled)
}
