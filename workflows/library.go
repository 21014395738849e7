package workflows

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"gopkg.in/yaml.v3"
)

//go:embed library
var library embed.FS

// Entry is a workflow that comes with the program.
type Entry struct {
	Slug        string
	Title       string
	Description string
	// Outputs are the kinds of output that a run yields: image, video, text.
	Outputs []string
	// Graph is the API-format file as it is in the repository.
	Graph  []byte
	Params []Param
	// Sample holds media to try it with, by the names that the graph uses.
	Sample map[string][]byte
}

// about is about.yaml.
type about struct {
	Title       string   `yaml:"title"`
	Description string   `yaml:"description"`
	Outputs     []string `yaml:"outputs"`
	Media       []string `yaml:"media"`
	Params      []Param  `yaml:"params"`
}

// Bundled reads the collection in alphabetical order of the slugs. Each graph was parsed and each parameter list held
// against it; an error means a broken build.
func Bundled() ([]Entry, error) {
	dirs, err := fs.ReadDir(library, "library")
	if err != nil {
		return nil, fmt.Errorf("read the bundled library: %w", err)
	}
	var list []Entry
	for _, dir := range dirs {
		e, err := readEntry(dir.Name())
		if err != nil {
			return nil, fmt.Errorf("bundled workflow %s: %w", dir.Name(), err)
		}
		list = append(list, e)
	}
	return list, nil
}

func readEntry(slug string) (Entry, error) {
	dir := path.Join("library", slug)
	graph, err := library.ReadFile(path.Join(dir, "workflow.json"))
	if err != nil {
		return Entry{}, err
	}
	text, err := library.ReadFile(path.Join(dir, "about.yaml"))
	if err != nil {
		return Entry{}, err
	}
	var a about
	if err := yaml.Unmarshal(text, &a); err != nil {
		return Entry{}, fmt.Errorf("about.yaml: %w", err)
	}
	if a.Title == "" || a.Description == "" {
		return Entry{}, errors.New("about.yaml: no title or description")
	}
	g, err := Parse(graph)
	if err != nil {
		return Entry{}, err
	}
	if err := CheckParams(g, a.Params); err != nil {
		return Entry{}, err
	}
	e := Entry{Slug: slug, Title: a.Title, Description: a.Description, Outputs: a.Outputs, Graph: graph,
		Params: WithDefaults(g, a.Params), Sample: map[string][]byte{}}
	for _, name := range a.Media {
		if e.Sample[name], err = library.ReadFile(path.Join(dir, name)); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}
