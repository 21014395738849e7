package proc

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode"
)

const (
	// tailWindow is how much of a log's end is read: far more than anybody shows.
	tailWindow = 1 << 20
	// lineLimit cuts endless lines (a dumped tensor, a base64 picture).
	lineLimit = 4096
)

// ansi matches terminal control sequences: colours and cursor moves (CSI), titles (OSC), two-character escapes.
var ansi = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])`)

// Tail is the last lines of a log as a reader would have seen them: without colours, and of a line that was
// overwritten (a progress bar) only the last state. A log that was rotated a moment ago is continued into the old one.
// A missing file has no lines.
func Tail(file string, lines int) ([]string, error) {
	now, err := TailSince(file, 0, lines)
	if err != nil || len(now) >= lines {
		return now, err
	}
	before, err := TailSince(file+".1", 0, lines-len(now))
	if err != nil {
		return now, nil // the old log is only a courtesy
	}
	return append(before, now...), nil
}

// TailSince is Tail of what was written after offset (as LogSize told it). When the log was rotated since, it is what
// the new log has.
func TailSince(file string, offset int64, lines int) ([]string, error) {
	if lines <= 0 {
		return nil, nil
	}
	raw, whole, err := readEnd(file, offset)
	if err != nil {
		return nil, err
	}
	all := strings.Split(strings.ToValidUTF8(string(raw), "\uFFFD"), "\n")
	if !whole && len(all) > 1 {
		all = all[1:] // begins somewhere inside a line
	}
	out := make([]string, 0, min(lines, len(all)))
	for _, l := range all {
		if l = readableLine(l); l != "" {
			out = append(out, l)
		}
	}
	return out[max(0, len(out)-lines):], nil
}

// LogSize is the size of a log in bytes, 0 when there is none.
func LogSize(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// readEnd reads the end of a file from offset, at most tailWindow. whole says that nothing was left out before it.
func readEnd(file string, offset int64) (raw []byte, whole bool, err error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if offset < 0 || offset > info.Size() {
		offset = 0
	}
	from := max(offset, info.Size()-tailWindow)
	var b bytes.Buffer
	_, err = io.Copy(&b, io.NewSectionReader(f, from, info.Size()-from))
	return b.Bytes(), from == offset, err
}

// readableLine is what is left on a terminal after a line was written: \r goes back to its start.
func readableLine(l string) string {
	l = ansi.ReplaceAllString(l, "")
	l = strings.TrimRight(l, "\r ")
	if i := strings.LastIndexByte(l, '\r'); i >= 0 {
		l = l[i+1:]
	}
	l = strings.Map(func(r rune) rune {
		if r != '\t' && unicode.IsControl(r) {
			return -1
		}
		return r
	}, l)
	if len(l) > lineLimit {
		l = strings.ToValidUTF8(l[:lineLimit], "") + " …"
	}
	return strings.TrimRight(l, " \t")
}
