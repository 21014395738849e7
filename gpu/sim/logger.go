package sim

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// keptLines bounds what /internal/logs shows.
const keptLines = 300

// logger writes lines like ComfyUI's, coloured level included, and keeps the last ones.
type logger struct {
	mu    sync.Mutex
	out   io.Writer
	lines []logLine
}

type logLine struct {
	T time.Time `json:"t"`
	M string    `json:"m"`
}

func newLogger(out io.Writer) *logger { return &logger{out: out} }

func (l *logger) info(format string, args ...any) { l.write("\x1b[32m[INFO]\x1b[0m ", format, args) }
func (l *logger) error(format string, args ...any) {
	l.write("\x1b[1m\x1b[31m[ERROR]\x1b[0m ", format, args)
}

func (l *logger) write(level, format string, args []any) {
	text := level + fmt.Sprintf(format, args...) + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == keptLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, logLine{time.Now(), text})
	_, _ = io.WriteString(l.out, text) // a log that cannot be written must not stop the work
}

func (l *logger) tail() []logLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]logLine(nil), l.lines...)
}
