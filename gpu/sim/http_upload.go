package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// maxField bounds a text field of an upload.
const maxField = 64 << 10

// uploaded is a parsed upload form: the file is spooled, since the fields that say where it goes may come after it.
type uploaded struct {
	spool  string // path of the spooled file, "" when the form had none
	name   string // as the client wrote it, path included
	fields map[string]string
}

func (u *uploaded) remove() {
	if u.spool != "" {
		_ = os.Remove(u.spool) // after a rename it is gone already
	}
}

// postUpload is POST /upload/image.
func (s *Server) postUpload(w http.ResponseWriter, r *http.Request) {
	up, ok := s.receive(w, r)
	if !ok {
		return
	}
	defer up.remove()
	s.store(w, up)
}

// postUploadMask is POST /upload/mask: the upload's alpha replaces the alpha of the picture that original_ref names.
func (s *Server) postUploadMask(w http.ResponseWriter, r *http.Request) {
	up, ok := s.receive(w, r)
	if !ok {
		return
	}
	defer up.remove()
	if text := up.fields["original_ref"]; text != "" && up.spool != "" {
		if status := s.mergeAlpha(up, text); status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
	}
	s.store(w, up)
}

// receive reads the form; it has answered when it returns false.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) (*uploaded, bool) {
	up := &uploaded{fields: map[string]string{}}
	form, err := r.MultipartReader()
	if err != nil {
		trouble(w)
		return nil, false
	}
	for {
		part, err := form.NextRawPart()
		if err == io.EOF {
			return up, true
		}
		if err == nil {
			err = s.receivePart(part, up)
		}
		if err != nil {
			up.remove()
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				s.tooLarge(w, large.Limit+1)
			} else {
				trouble(w)
			}
			return nil, false
		}
	}
}

func (s *Server) receivePart(part *multipart.Part, up *uploaded) error {
	// Part.FileName would hide the path that a client sent.
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return fmt.Errorf("content disposition: %w", err)
	}
	if params["name"] != "image" {
		value, err := io.ReadAll(io.LimitReader(part, maxField))
		up.fields[params["name"]] = string(value)
		return err
	}
	f, err := os.CreateTemp(s.dirs.temp, "upload-*")
	if err != nil {
		return err
	}
	up.remove()
	up.spool, up.name = f.Name(), params["filename"]
	_, err = io.Copy(f, part)
	return errors.Join(err, f.Close())
}

// store moves the upload to where it belongs and answers with the name that it got.
func (s *Server) store(w http.ResponseWriter, up *uploaded) {
	kind := "input"
	if v, ok := up.fields["type"]; ok {
		kind = v
	}
	dir, ok := s.dirs.byType(kind)
	if !ok {
		trouble(w)
		return
	}
	if up.spool == "" || up.name == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	sub := up.fields["subfolder"]
	folder := filepath.Join(dir, filepath.Clean(sub))
	path := filepath.Join(folder, up.name)
	if _, ok := inside(dir, sub); !ok || filepath.IsAbs(up.name) || !strings.HasPrefix(path, dir+string(filepath.Separator)) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		trouble(w)
		return
	}
	name, err := findName(up, folder, up.fields["overwrite"] == "true" || up.fields["overwrite"] == "1")
	if err != nil {
		trouble(w)
		return
	}
	reply(w, http.StatusOK, ordered{{"name", name}, {"subfolder", sub}, {"type", kind}})
}

// findName finds a name that is free, or taken by the same content, and puts the file there.
func findName(up *uploaded, folder string, overwrite bool) (string, error) {
	name := up.name
	extension := filepath.Ext(up.name)
	base := strings.TrimSuffix(up.name, extension)
	for i := 1; !overwrite; i++ {
		same, err := sameContent(filepath.Join(folder, name), up.spool)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		if same {
			return name, nil
		}
		name = fmt.Sprintf("%s (%d)%s", base, i, extension)
	}
	return name, move(up.spool, filepath.Join(folder, name))
}

// move renames, or copies where the temp directory is on another file system.
func move(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return os.Chmod(to, 0o644)
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func sameContent(a, b string) (bool, error) {
	ha, err := hashFile(a)
	if err != nil {
		return false, err
	}
	hb, err := hashFile(b)
	return bytes.Equal(ha, hb), err
}

func hashFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// mergeAlpha rewrites the spooled mask: colours of the original, alpha of the upload.
func (s *Server) mergeAlpha(up *uploaded, reference string) int {
	var ref struct{ Filename, Subfolder, Type string }
	if json.Unmarshal([]byte(reference), &ref) != nil || ref.Filename == "" || ref.Filename[0] == '/' || strings.Contains(ref.Filename, "..") {
		return http.StatusBadRequest
	}
	if ref.Type == "" {
		ref.Type = "output"
	}
	dir, ok := s.dirs.byType(ref.Type)
	if !ok {
		return http.StatusBadRequest
	}
	if dir, ok = inside(dir, ref.Subfolder); !ok {
		return http.StatusForbidden
	}
	original, _, _, err := readPicture(filepath.Join(dir, filepath.Base(ref.Filename)))
	if err != nil {
		return http.StatusOK // as ComfyUI: without an original the upload is stored as it is
	}
	_, mask, _, err := readPicture(up.spool)
	if err != nil {
		return http.StatusInternalServerError
	}
	mask = resizeMask(mask, original.Rect.Dx(), original.Rect.Dy())
	out := image.NewNRGBA(original.Rect)
	copy(out.Pix, original.Pix)
	for i, v := range mask.Pix {
		out.Pix[i*4+3] = 255 - v
	}
	f, err := os.Create(up.spool)
	if err != nil {
		return http.StatusInternalServerError
	}
	if errors.Join(png.Encode(f, out), f.Close()) != nil {
		return http.StatusInternalServerError
	}
	return http.StatusOK
}
