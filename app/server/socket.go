package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"comfyfleet/models"
)

// socketReadLimit bounds a message from the client; none is expected.
const socketReadLimit = 4 << 10

// WebSocket upgrades and sends a feed's frames as text messages. The route authorises before it. Pages of other hosts
// than this one and Config.Origins are refused, because a browser would send remembered Basic credentials for them.
func (s *Server) WebSocket(c *fiber.Ctx, open Open) error {
	ctx := c.Context()
	if !websocket.FastHTTPIsWebSocketUpgrade(ctx) || ctx.Request.Header.ConnectionClose() {
		return models.Errorf(models.CodeInvalid, "websocket_required", "this path speaks WebSocket; without it, use the events path beside it")
	}
	if !s.originAllowed(c) {
		return models.Errorf(models.CodeForbidden, "origin_not_allowed", "pages of this origin may not open a WebSocket here")
	}
	id := RequestID(c)
	up := websocket.FastHTTPUpgrader{
		HandshakeTimeout: 10 * time.Second,
		CheckOrigin:      func(*fasthttp.RequestCtx) bool { return true },
		Error:            func(*fasthttp.RequestCtx, int, error) {},
	}
	err := up.Upgrade(ctx, func(conn *websocket.Conn) {
		s.stream(id, open, &socketLine{conn: conn, patience: 3 * s.Heartbeat, gone: make(chan struct{})})
	})
	if err != nil {
		return &models.Error{Code: models.CodeInvalid, Name: "bad_handshake", Detail: "the WebSocket handshake is not valid", Err: err}
	}
	return nil
}

func (s *Server) originAllowed(c *fiber.Ctx) bool {
	origin := c.Get(fiber.HeaderOrigin)
	if origin == "" || slices.Contains(s.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, string(c.Context().Host()))
}

// socketLine writes WebSocket messages. Its reader sees pongs and the client's close.
type socketLine struct {
	conn     *websocket.Conn
	patience time.Duration // how long without a pong
	gone     chan struct{}
	on       bool
}

func (l *socketLine) start(cancel func()) error {
	l.on = true
	l.conn.SetReadLimit(socketReadLimit)
	alive := func(string) error { return l.conn.SetReadDeadline(time.Now().Add(l.patience)) }
	if err := alive(""); err != nil {
		return err
	}
	l.conn.SetPongHandler(alive)
	go func() {
		defer close(l.gone)
		defer cancel()
		for {
			if _, _, err := l.conn.NextReader(); err != nil {
				return
			}
		}
	}()
	return nil
}

func (l *socketLine) send(frames [][]byte) error {
	for _, f := range frames {
		if err := l.conn.WriteMessage(websocket.TextMessage, f); err != nil {
			return err
		}
	}
	return nil
}

func (l *socketLine) beat() error {
	return l.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(5*time.Second))
}

func (l *socketLine) under() net.Conn { return l.conn.NetConn() }

// end closes with a code that tells the client whether to come back.
func (l *socketLine) end(err error) {
	code, text := websocket.CloseNormalClosure, ""
	switch {
	case err == nil:
	case errors.Is(err, errStopping):
		code, text = websocket.CloseServiceRestart, err.Error()
	case models.ErrorCode(err) == models.CodeLimited:
		code, text = websocket.CloseTryAgainLater, ProblemOf(err).Code
	case errors.Is(err, context.Canceled): // the reader has ended: no pong came
		code = websocket.CloseGoingAway
	case models.ErrorCode(err) == models.CodeInternal:
		code = websocket.CloseInternalServerErr
	default:
		code, text = websocket.ClosePolicyViolation, ProblemOf(err).Code
	}
	_ = l.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(time.Second))
	if !l.on {
		return
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(time.Second)) // for the client's own close
	<-l.gone
}

// refusal is an error as a whole answer: its body and status line.
func refusal(err error) (body []byte, status string) {
	p := ProblemOf(err)
	body, _ = EncodeJSON(p) // strings and numbers always encode
	return body, fmt.Sprintf("%d %s", p.Status, p.Title)
}
