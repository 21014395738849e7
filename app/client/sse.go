package client

import (
	"bufio"
	"io"
	"strings"
)

// maxEvent bounds one line of an event stream; previews are the largest.
const maxEvent = 8 << 20

// event is one server-sent event (WHATWG HTML, 9.2).
type event struct {
	id   string
	name string
	data string
}

// readEvents calls fn for each event until the stream ends or fn says to stop. seen is called for every line, comments
// too: they show that the server is alive.
func readEvents(r io.Reader, seen func(), fn func(event) (stop bool)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	var e event
	var data []string
	for lines.Scan() {
		seen()
		line := lines.Text()
		if line == "" {
			if data != nil {
				e.data = strings.Join(data, "\n")
				if fn(e) {
					return nil
				}
			}
			e, data = event{id: e.id}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			data = append(data, value)
		}
	}
	return lines.Err()
}
