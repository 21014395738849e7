package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// place is where a node saves: ComfyUI's get_save_image_path.
type place struct {
	dir, name, subfolder string
	counter              int
}

// savePlace expands the tokens of a prefix, creates its directory and finds the next counter by listing it. A prefix that
// leads out of the directory is an exception at run time.
func (s *Server) savePlace(root, prefix string, w, h int) (place, error) {
	now := time.Now()
	two := func(n int) string { return fmt.Sprintf("%02d", n) }
	prefix = strings.NewReplacer("%width%", strconv.Itoa(w), "%height%", strconv.Itoa(h), "%year%", strconv.Itoa(now.Year()),
		"%month%", two(int(now.Month())), "%day%", two(now.Day()), "%hour%", two(now.Hour()), "%minute%", two(now.Minute()),
		"%second%", two(now.Second())).Replace(prefix)
	clean := filepath.Clean(prefix)
	dir, ok := inside(root, filepath.Dir(clean))
	if filepath.IsAbs(prefix) || !ok || clean == ".." || strings.HasPrefix(clean, "../") {
		return place{}, raisef("Exception", "**** ERROR: Saving image outside the output folder is not allowed.\n full_output_folder: %s\n         output_dir: %s",
			filepath.Join(root, filepath.Dir(clean)), root)
	}
	p := place{dir: dir, name: filepath.Base(clean), subfolder: filepath.Dir(clean)}
	if p.subfolder == "." {
		p.subfolder = ""
	}
	if err := s.spaceLeft(); err != nil {
		return place{}, err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return place{}, osError(err)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return place{}, osError(err)
	}
	for _, e := range entries {
		if n, ok := counterOf(e.Name(), p.name); ok {
			p.counter = max(p.counter, n)
		}
	}
	p.counter++
	return p, nil
}

// counterOf is the number of a saved file's name: prefix_00012_.png or prefix_00012.mp4.
func counterOf(file, prefix string) (int, bool) {
	rest, ok := strings.CutPrefix(file, prefix+"_")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, ".")
	digits, _, _ = strings.Cut(digits, "_")
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

func (s *Server) spaceLeft() error {
	if s.faults.has("disk-full") {
		return raisef("OSError", "[Errno 28] No space left on device")
	}
	return nil
}

func osError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // without our paths' wording
	}
	return raisef("OSError", "%s", err)
}

// writeFile writes a file through write; the huge-output fault makes it longer.
func (s *Server) writeFile(path string, write func(*os.File) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return osError(err)
	}
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = osError(closing)
		}
	}()
	if err := write(f); err != nil {
		return osError(err)
	}
	if extra := s.faults.number("huge-output"); extra > 0 {
		if _, err := io.CopyN(f, zeros{}, extra); err != nil {
			return osError(err)
		}
	}
	return nil
}

// zeros is an endless reader of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// savedFile is a file item of a ui.
func savedFile(name, subfolder, kind string) ordered {
	return ordered{{"filename", name}, {"subfolder", subfolder}, {"type", kind}}
}
