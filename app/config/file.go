package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// maxFile bounds the file of settings in bytes.
const maxFile = 1 << 20

// ReadFile reads the YAML file of settings: one flat map, with the names of the flags ("_" for "-" will do). The values
// are the texts that the flags would take; a list is joined as its flag is. A name without a value is left out. An
// unknown name is an error: it would be a setting that silently does nothing.
func ReadFile(path string) (map[string]any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("config file %s: larger than %d bytes", path, maxFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	// Nodes keep the text as it was written: a key of digits is no number, and "off" no boolean.
	nodes := map[string]yaml.Node{}
	if err := yaml.Unmarshal(raw, &nodes); err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	values := map[string]any{}
	var problems []error
	for _, written := range slices.Sorted(maps.Keys(nodes)) {
		node := nodes[written]
		o, ok := find(strings.ReplaceAll(written, "_", "-"))
		if !ok {
			problems = append(problems, fmt.Errorf("config file %s, line %d: no setting %q", path, node.Line, written))
			continue
		}
		if _, twice := values[o.name]; twice {
			problems = append(problems, fmt.Errorf("config file %s, line %d: %s is set twice", path, node.Line, o.name))
			continue
		}
		text, set, err := nodeText(&node, o.separator())
		if err != nil {
			problems = append(problems, fmt.Errorf("config file %s, line %d: %s: %w", path, node.Line, o.name, err))
		} else if set {
			values[o.name] = text
		}
	}
	return values, errors.Join(problems...)
}

// nodeText is a YAML value as a flag would take it; set is false for null.
func nodeText(n *yaml.Node, separator string) (text string, set bool, err error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, n.Tag != "!!null", nil
	case yaml.SequenceNode:
		if separator == "" {
			return "", false, errors.New("takes one value, not a list")
		}
		words := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", false, errors.New("takes a flat list")
			}
			words[i] = item.Value
		}
		return strings.Join(words, separator), true, nil
	default:
		return "", false, errors.New("takes a plain value")
	}
}

// Resolver gives kong the values of a file. kong lets resolvers overrule the environment; this one steps back where a
// variable is set.
func Resolver(values map[string]any) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		v, ok := values[flag.Name]
		if !ok {
			return nil, nil
		}
		o, ok := find(flag.Name)
		if !ok || !slices.Contains(flag.Envs, o.env) {
			return nil, nil // another command's flag of the same name
		}
		if os.Getenv(o.env) != "" {
			return nil, nil
		}
		return v, nil
	})
}
