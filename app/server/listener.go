package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// busyBody is what a connection beyond the limit gets.
const busyBody = `{"type":"about:blank","title":"Service Unavailable","status":503,"code":"too_many_connections",` +
	`"detail":"too many connections are open; retry"}`

// listener hands connections to fasthttp. It waits out errors that pass, above all too many open files, which fasthttp
// would take for the end of the listener; and it answers connections beyond the limit instead of leaving them hanging.
type listener struct {
	net.Listener
	s    *Server
	once sync.Once
}

// Close may be called again.
func (l *listener) Close() (err error) {
	l.once.Do(func() { err = l.Listener.Close() })
	return err
}

// Accept is the next connection within the limit.
func (l *listener) Accept() (net.Conn, error) {
	wait := 5 * time.Millisecond
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if !passing(err) {
				return nil, err
			}
			l.s.Log.Warn("cannot accept connections for the moment", "err", err)
			select {
			case <-time.After(wait):
			case <-l.s.streams.Done():
			}
			wait = min(2*wait, time.Second)
			continue
		}
		open := l.s.connections.Add(1)
		conn := &connection{Conn: c, s: l.s}
		if open > int64(l.s.MaxConnections) {
			l.refuse(conn, open)
			continue
		}
		return conn, nil
	}
}

// refuse answers a connection beyond the limit. Far beyond it, it is only closed.
func (l *listener) refuse(c *connection, open int64) {
	if open > int64(l.s.MaxConnections)+256 {
		c.Close()
		return
	}
	done := l.s.hijacked.add()
	go func() {
		defer done()
		defer c.Close()
		_, err := fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"+
			"Retry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(busyBody), busyBody)
		if err == nil {
			halfClose(c, time.Second)
		}
	}()
}

// passing reports whether an accept error is not the listener's end.
func passing(err error) bool {
	var number syscall.Errno
	if errors.As(err, &number) {
		switch number {
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR:
			return true
		}
	}
	return false
}

// connection is counted until it is closed, and no write on it waits longer than WriteIdle for a client that does not
// read: fasthttp's own WriteTimeout would be for the whole answer.
type connection struct {
	net.Conn
	s       *Server
	once    sync.Once
	hurried atomic.Bool
}

func (c *connection) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.s.WriteIdle)); err != nil {
		return 0, err
	}
	if c.hurried.Load() {
		if err := c.SetWriteDeadline(time.Now().Add(lastWords)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// hurry gives the write that runs, and those after it, lastWords instead of WriteIdle.
func (c *connection) hurry() {
	c.hurried.Store(true)                             // for a write that is about to set its own deadline
	_ = c.SetWriteDeadline(time.Now().Add(lastWords)) // fails on a closed connection, which writes nothing
}

func (c *connection) Close() error {
	c.once.Do(func() { c.s.connections.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite ends our direction. The client can still read what was sent.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// halfClose ends our direction and reads off what still comes, until the client ends or the time is up. Closing with
// unread data in the buffer would reset the connection, and the client could lose the answer.
func halfClose(c net.Conn, limit time.Duration) {
	if half, ok := bare(c).(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	if c.SetReadDeadline(time.Now().Add(limit)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) // how it ends does not matter
}

// bare is the connection under fasthttp's wrapper of a hijacked one.
func bare(c net.Conn) net.Conn {
	if w, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		return w.UnsafeConn()
	}
	return c
}
