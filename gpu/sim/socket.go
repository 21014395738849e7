package sim

import (
	"encoding/json"
	"net/http"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
)

// handleSocket is GET /ws.
func (s *Server) handleSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }} // origins are checked for all routes
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	defer conn.Close()
	id := r.URL.Query().Get("clientId")
	if id == "" {
		u := uuid.New()
		id = hexID(u)
	}
	sock := &socket{conn: conn}
	s.hub.add(id, sock)
	defer s.hub.drop(id, sock)
	if s.ctx.Err() != nil {
		return // closed between the accept and here
	}
	s.hub.writeNow(sock, "status", ordered{{"status", s.queueInfo()}, {"sid", id}})
	if node := s.runningNode(id); node != "" {
		s.hub.writeNow(sock, "executing", map[string]any{"node": node})
	}
	for first := true; ; first = false {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage || !first {
			continue
		}
		var m struct {
			Type string `json:"type"`
			Data struct {
				Metadata bool `json:"supports_preview_metadata"`
			} `json:"data"`
		}
		if json.Unmarshal(data, &m) == nil && m.Type == "feature_flags" {
			s.hub.setMetadata(id, m.Data.Metadata)
			s.hub.writeNow(sock, "feature_flags", s.features())
		}
	}
}

// hexID is a UUID without hyphens, as Python's uuid4().hex.
func hexID(u uuid.UUID) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 32)
	for _, b := range u {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}
