// Package static embeds everything that browsers fetch besides pages: style sheets, scripts, fonts and icons.
//
// All files are served under one prefix that holds a hash of their contents, so they may be cached for ever and style
// sheets can name fonts by relative addresses. vendor/ holds files of others, unmodified; vendor/manifest.json says
// which, and a test compares their hashes.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"sync"
)

// Root is where the files are mounted.
const Root = "/static/"

//go:embed css js vendor
var files embed.FS

// File is one embedded file as it is sent.
type File struct {
	Body []byte
	// Gzip is Body compressed, nil where that saves nothing (fonts).
	Gzip        []byte
	ContentType string
}

type tree struct {
	hash  string
	files map[string]File
}

// load reads the embedded files once. It depends on nothing but the binary, so remembering it is not state.
var load = sync.OnceValue(func() tree {
	t, err := build(files)
	if err != nil {
		panic(err) // an embedded file that cannot be read is a broken build
	}
	return t
})

// URL is the address of a file, for example URL("css/base.css").
func URL(name string) string { return Root + load().hash + "/" + name }

// Hash is the part of every address that changes with the contents.
func Hash() string { return load().hash }

// Lookup finds a file by its name.
func Lookup(name string) (File, bool) {
	f, ok := load().files[name]
	return f, ok
}

func build(root fs.FS) (tree, error) {
	t := tree{files: map[string]File{}}
	sum := sha256.New()
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(body))
		sum.Write(body)
		f := File{Body: body, ContentType: contentType(name)}
		if f.Gzip, err = squeeze(body); err != nil {
			return err
		}
		t.files[name] = f
		return nil
	})
	t.hash = hex.EncodeToString(sum.Sum(nil))[:12]
	return t, err
}

// squeeze compresses body, or answers nil when that saves less than a tenth.
func squeeze(body []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if b.Len() > len(body)*9/10 {
		return nil, nil
	}
	return b.Bytes(), nil
}

// contentType does not ask the system's tables: they differ between machines.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".json":
		return "application/json"
	case ".webp":
		return "image/webp"
	}
	return "text/plain; charset=utf-8"
}
