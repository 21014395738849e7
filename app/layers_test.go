package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers says which packages of ours each package may import. "*" is everything. A package that is missing here fails
// the test: a new one takes a decision about its place.
var layers = map[string][]string{
	"app":                    {"*"},
	"app/bench":              {"*"}, // a program of its own: it measures the whole from outside and parts from inside
	"app/api":                {"app/jobs", "app/server", "app/auth", "app/storage", "app/lift", "models", "workflows"},
	"app/web":                {"app/jobs", "app/server", "app/auth", "app/storage", "app/lift", "models", "workflows", "views", "static"},
	"app/server":             {"app/auth", "models"},
	"app/jobs":               {"gpu", "workflows", "app/auth", "app/storage", "app/outbound", "models"},
	"app/webhooks":           {"app/outbound", "models"},
	"app/client":             {"models"},
	"app/auth":               {"models"},
	"app/storage":            {"models"},
	"app/outbound":           {"models"},
	"app/lift":               {"workflows"},
	"app/config":             {},
	"workflows":              {"models"},
	"views":                  {"models", "static"},
	"static":                 {},
	"models":                 {},
	"models/store":           {"models"},
	"models/store/storetest": {"models", "models/store"},
	"gpu":                    {"gpu/proc", "gpu/nvidia", "models"},
	"gpu/comfy":              {"gpu"},
	"gpu/proc":               {},
	"gpu/proc/proctest":      {},
	"gpu/nvidia":             {"models"},
	"gpu/sim":                {"workflows", "gpu/sim/mp4"},
	"gpu/sim/mp4":            {},
}

// homes says where a family of libraries may be imported, by import path prefix. The longest prefix decides.
var homes = map[string][]string{
	"github.com/gofiber/":           {"app/server", "app/api", "app/web", "app"},
	"github.com/valyala/fasthttp":   {"app/server", "app/api", "app/web"},
	"github.com/fasthttp/websocket": {"app/server", "app/api", "app/web", "gpu/comfy", "gpu/sim"},
	"gorm.io/":                      {"models/store"},
	"github.com/mattn/go-sqlite3":   {"models/store"},
	"github.com/go-gormigrate/":     {"models/store"},
	"github.com/a-h/templ":          {"views", "app/web"},
	"gocloud.dev/":                  {"app/storage"},
	"github.com/NVIDIA/go-nvml":     {"gpu/nvidia"},
	"code.dny.dev/ssrf":             {"app/outbound"},
	"github.com/alecthomas/kong":    {"app", "app/config"},
	"github.com/prometheus/":        {"app", "app/server", "app/api"},
}

func TestLayers(t *testing.T) {
	root := ".."
	seen := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, file)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "node_modules" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		seen++
		checkImports(t, filepath.ToSlash(rel), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d files were looked at", seen)
	}
}

func checkImports(t *testing.T, rel, file string) {
	t.Helper()
	pkg := path.Dir(rel)
	allowed, known := layers[pkg]
	if !known {
		t.Errorf("%s: package %s is not in the table of layers", rel, pkg)
		return
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range f.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if ours, ok := strings.CutPrefix(imported, "comfyfleet/"); ok {
			if !slices.Contains(allowed, "*") && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which package %s may not", rel, imported, pkg)
			}
			continue
		}
		for prefix, at := range homes {
			if strings.HasPrefix(imported, prefix) && !slices.Contains(at, pkg) {
				t.Errorf("%s imports %s, which belongs in %s", rel, imported, strings.Join(at, ", "))
			}
		}
	}
}

// TestTopLevel holds the promised shape of the repository.
func TestTopLevel(t *testing.T) {
	want := []string{"app", "views", "static", "models", "gpu", "workflows", "docs", "go.mod", "go.sum", "Makefile", "Dockerfile", "README.md", "LICENSE", "CHANGELOG.md"}
	made := []string{"data", "outputs", "bin", "node_modules"} // git-ignored
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Name()] = true
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(want, e.Name()) && !slices.Contains(made, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
	for _, name := range want {
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
